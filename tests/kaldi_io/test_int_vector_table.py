"""Tables of integer vectors: Kaldi's own files byte for byte, and kaldi-native-io."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_bn.kaldi_io.int_vector_table import read_int_vectors, write_int_vectors
from tests.helpers.kaldi_fixtures import SYNTHETIC


def test_binary_text_and_gzip_of_kaldi_hold_the_same() -> None:
    binary = dict(read_int_vectors(SYNTHETIC / "variants/ali.1"))
    for other in ("variants/ali.1.txt", "ali/ali.1.gz"):
        read = dict(read_int_vectors(SYNTHETIC / other))
        assert list(read) == list(binary)
        for utt_id, vector in binary.items():
            np.testing.assert_array_equal(read[utt_id], vector)


@pytest.mark.parametrize(("prefix", "name"), [("ark:", "ali.1"), ("ark,t:", "ali.1.txt")])
def test_writes_the_bytes_of_kaldi(tmp_path: Path, prefix: str, name: str) -> None:
    items = read_int_vectors(SYNTHETIC / "variants/ali.1")
    assert write_int_vectors(f"{prefix}{tmp_path}/out", items) == 6
    assert (tmp_path / "out").read_bytes() == (SYNTHETIC / "variants" / name).read_bytes()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20), max_size=5))
def test_kaldi_native_io_reads_what_we_wrote(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]]
) -> None:
    kaldi_native_io = pytest.importorskip("kaldi_native_io")
    folder = tmp_path_factory.mktemp("ints")
    items = [(f"u{i}", np.array(row, dtype=np.int32)) for i, row in enumerate(rows)]
    write_int_vectors(f"ark,scp:{folder}/a.ark,{folder}/a.scp", items)
    for source in ("ark:{}/a.ark", "scp:{}/a.scp"):
        ours = [(u, v.tolist()) for u, v in read_int_vectors(source.format(folder))]
        assert ours == [(u, v.tolist()) for u, v in items]
    with kaldi_native_io.SequentialInt32VectorReader(f"ark:{folder}/a.ark") as reader:
        assert [list(value) for _, value in reader] == rows
