"""The binary readers on corrupt files: our error or a value, never another exception, never much memory."""

import gzip
import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr_bn.audio.reader import decode_audio
from asr_bn.decoding.fst_file import FstArrays
from asr_bn.decoding.hmms import Hmms
from asr_bn.kaldi_io.context_dependency import ContextDependency
from asr_bn.kaldi_io.int_vector_table import read_int_vectors
from asr_bn.kaldi_io.matrix import read_matrix, read_matrix_shape
from asr_bn.kaldi_io.matrix_table import read_matrices
from asr_bn.kaldi_io.transition_model import TransitionModel
from tests.helpers.kaldi_fixtures import SYNTHETIC

GRAPH = FstArrays.read(SYNTHETIC / "graph/HCLG.fst.gz")
SEEDS = {
    "fst": [gzip.decompress((SYNTHETIC / "graph/HCLG.fst.gz").read_bytes()), GRAPH.vector_bytes()],
    "matrix": [
        (SYNTHETIC / f"oracles/feats/compressed.{name}.ark").read_bytes()
        for name in ("default", "method3", "method5")
    ]
    + [(SYNTHETIC / "oracles/feats/cmvn.spk.ark").read_bytes(), b"u  [\n  1 2\n  3 4 ]\n"],
    "int_vector": [
        (SYNTHETIC / "variants/ali.1").read_bytes(),
        (SYNTHETIC / "variants/ali.1.txt").read_bytes(),
    ],
    "model": [
        (SYNTHETIC / "variants/transition_model.bin").read_bytes(),
        (SYNTHETIC / "variants/chain/final.mdl").read_bytes(),
    ],
    "tree": [
        (SYNTHETIC / "ali/tree").read_bytes(),
        b"ContextDependency 2 1 ToPdf TE -1 2 ( CE 0 SE 0 [ 1 2 ]\n{ CE 1 NULL } )\nEndContextDependency ",
    ],
    "audio": [(SYNTHETIC / "audio/syn6.wav").read_bytes(), b"NIST_1A\n   1024\n" + b"end_head\n".rjust(1100)],
}


@st.composite
def corrupted(draw: st.DrawFn, kind: str) -> bytes:
    """A real file with a few bytes replaced, removed or added, mostly near its beginning."""
    data = bytearray(draw(st.sampled_from(SEEDS[kind])))
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, min(len(data), draw(st.sampled_from([40, 400, len(data)])))))
        replacement = draw(
            st.one_of(st.binary(max_size=8), st.sampled_from([b"\xff\xff\xff\x7f", b"\0\0\0\x80"]))
        )
        data[position : position + draw(st.integers(0, 8))] = replacement
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


fuzz = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])


def _write(factory: pytest.TempPathFactory, data: bytes) -> Path:
    path = factory.getbasetemp() / "fuzzed"
    path.write_bytes(data)
    return path


@fuzz
@given(corrupted("matrix"))
def test_matrices(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    try:
        for _, matrix in read_matrices(f"ark:{_write(tmp_path_factory, data)}"):
            assert matrix.ndim == 2
            assert matrix.nbytes <= 16 * len(data)
    except ValueError:
        pass


@fuzz
@given(corrupted("matrix"))
def test_matrix_headers(data: bytes) -> None:
    body = data[data.find(b" ") + 1 :]
    for reader in (read_matrix_shape, read_matrix):
        try:
            reader(io.BytesIO(body), "u: fuzzed")
        except ValueError as error:
            assert str(error).startswith("u: fuzzed")


@fuzz
@given(corrupted("int_vector"))
def test_int_vectors(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    try:
        for _, vector in read_int_vectors(f"ark:{_write(tmp_path_factory, data)}"):
            assert vector.nbytes <= 4 * len(data)
    except ValueError:
        pass


@fuzz
@given(corrupted("model"))
def test_transition_models(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    try:
        model = TransitionModel.read(_write(tmp_path_factory, data))
        assert model.num_pdfs > model.tid_to_pdf.max()
    except ValueError as error:
        assert "fuzzed: " in str(error)


@fuzz
@given(corrupted("model"))
def test_phones_of_transition_models(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    try:
        hmms = Hmms.read(_write(tmp_path_factory, data))
        assert sum(map(len, hmms.transitions.values())) == hmms.num_transition_ids
    except ValueError as error:
        assert "fuzzed: " in str(error)


@fuzz
@given(corrupted("tree"))
def test_trees(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    try:
        tree = ContextDependency.read(_write(tmp_path_factory, data))
        pdf_id = tree.pdf_id([1] * tree.context_width, 0)
        assert pdf_id is None or isinstance(pdf_id, int)
    except ValueError as error:
        assert "fuzzed: " in str(error)


@fuzz
@given(corrupted("fst"))
def test_graphs(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    try:
        fst = FstArrays.read(_write(tmp_path_factory, data))
        assert fst.arcs.nbytes + fst.finals.nbytes <= 4 * len(data)
        assert fst.first_arcs[-1] == len(fst.arcs)
        assert fst.arcs["nextstate"].min(initial=0) >= 0
        assert fst.arcs["nextstate"].max(initial=0) < max(len(fst.finals), 1)
    except ValueError as error:
        assert "fuzzed: " in str(error)


@fuzz
@given(st.one_of(corrupted("audio"), st.binary(max_size=64)))
def test_audio(data: bytes) -> None:
    try:
        assert decode_audio(data).samples.ndim == 1
    except ValueError as error:
        assert str(error).startswith("audio: ")


@pytest.mark.parametrize("rows", [2**31 - 1, 10**9])
def test_a_corrupt_header_allocates_nothing(tmp_path: Path, rows: int) -> None:
    for token in ("FM ", "DM ", "CM ", "CM2 ", "CM3 "):
        sizes = b"\0" * 8 + rows.to_bytes(4, "little") + (41).to_bytes(4, "little")
        if token[0] in "FD":
            sizes = b"\x04" + rows.to_bytes(4, "little") + b"\x04" + (41).to_bytes(4, "little")
        (tmp_path / token.strip()).write_bytes(b"u \0B" + token.encode() + sizes + b"\0" * 1000)
    code = (
        "import sys, resource; from asr_bn.kaldi_io.matrix_table import read_matrices\n"
        "size = 1 << 30; resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
        "for path in sys.argv[1:]:\n"
        "    try: list(read_matrices('ark:' + path)); sys.exit(2)\n"
        "    except ValueError as error: assert 'cut short' in str(error), error\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, *map(str, sorted(tmp_path.iterdir()))],
        check=True,
        cwd=Path(__file__).parents[2],
        env={"OPENBLAS_NUM_THREADS": "1"},
    )
