"""Tables as Kaldi's holders read them: kaldi-native-io beside ours, on archives and script files by hand."""

import gzip
import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_bn.kaldi_io.int_vector_table import read_int_vectors, write_int_vectors
from asr_bn.kaldi_io.matrix_table import MatrixScp, MatrixWriter, read_matrices
from asr_bn.kaldi_io.specifiers import parse_rspecifier, parse_wspecifier
from asr_bn.kaldi_io.utterance_id import MAX_ID_BYTES

Entries = list[tuple[str, Any]]
MATRICES = [
    b"u [ 1 2 ] v [ 3 ]\n",
    b"u [ 1 2 ; 3 4 ]\n",
    b"u [ 1; 2;; 3 ;]\n",
    b"u [ 1 2]x [ 3 ]",
    b"u []\nv [ ]\nw  [\n  1.5 \n  -2e3 ]\n",
    b"u [ 1\x0b2\x0c3 ]\r\nv [\r\n 1\r\n 2 ]\r\n",
    b"u\n[ 1 ]\nv\t[ 2 ]\n",
    b"u [ 1e-50 inf NaN Infinity 1. ]\n",
    "ü\xa0ü [ 7 ]\n".encode(),
    b"\n\n",
]
INTEGERS = [
    b"1\n2 3 4\n",
    b"1 \n2 3 4\n",
    b"u 1 2",
    b"u\t1\nv\n",
    b"u 1\r\nv 2\r\n",
    b"u 1\x0b2\x0c3\n",
    b"u +3 -4 007\n",
    b"\n\nu 1\n\n  v 2\n",
    "u\u3000v 1\n".encode(),
]


def _kaldis(folder: Path, reader: str, rspecifier: str) -> Entries:
    kaldi_native_io = pytest.importorskip("kaldi_native_io")
    with getattr(kaldi_native_io, reader)(rspecifier.format(folder)) as table:
        return [(key, np.array(value).tolist()) for key, value in table]


def _ours(read: Callable[[str], Any], rspecifier: str) -> Entries:
    return [(key, value.tolist()) for key, value in read(rspecifier)]


@pytest.mark.parametrize("raw", MATRICES)
def test_text_matrices(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(raw)
    expected = _kaldis(tmp_path, "SequentialFloatMatrixReader", "ark:{}/x")
    np.testing.assert_equal(_ours(read_matrices, f"ark:{tmp_path}/x"), expected)


@pytest.mark.parametrize("raw", INTEGERS)
def test_text_vectors(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(raw)
    expected = _kaldis(tmp_path, "SequentialInt32VectorReader", "ark:{}/x")
    assert _ours(read_int_vectors, f"ark:{tmp_path}/x") == expected


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(["u", "1", "-2", "[", "]", ";", " ", " ", "\n", "\t", "inf"]), max_size=24))
def test_of_random_words_we_read_nothing_that_kaldi_does_not(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    """Where ours is no error, it is Kaldi's; one that Kaldi refuses leaves its reader without a table."""
    folder = tmp_path_factory.getbasetemp()
    (folder / "random").write_text(" ".join(words))
    for read, reader in (
        (read_matrices, "SequentialFloatMatrixReader"),
        (read_int_vectors, "SequentialInt32VectorReader"),
    ):
        try:
            ours = _ours(read, f"ark:{folder}/random")
        except ValueError:
            continue
        np.testing.assert_equal(ours, _kaldis(folder, reader, "ark:{}/random"))


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"u [ 1 2 ]garbage\n", "^garbage: .*not a Kaldi matrix"),
        (b"u [ 1_0 ]\n", "^u: .*expected a number, found '1_0'"),
        (b"u [ 1-2 ]\n", "^u: .*expected a number, found '1-2'"),
        (b"u [ 1\xc2\xa02 ]\n", "^u: .*expected a number"),
        (b"u [ \xd9\xa1 ]\n", "^u: .*expected a number"),
        (b"u [ 1e50 ]\n", "^u: .*too large for float32"),
        (b"u [ inf 1e50 ]\n", "^u: .*too large for float32"),
        (b"u [1 ]\n", r"^u: .*expected a blank after '\['"),
        (b"u [ 1 2\n3 ]\n", "^u: .*rows of unlike lengths"),
        (b"u [ 1 2\n", "^u: .*cut short"),
        (b"\0BFM \4", "not a Kaldi archive: b'.x00BFM' where an utterance id should be"),
        (b"u", "cut short: it ends after the utterance id b'u'"),
        (b"u\x0b[ 1 ]\n", "expected a blank after the utterance id 'u'"),
        (b"\xef\xbb\xbfu [ 1 ]\n", "begins with a byte order mark"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_matrices_that_are_none(raw: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(ValueError, match=sentence):
        list(read_matrices(f"ark:{tmp_path}/x"))


@pytest.mark.parametrize(
    "raw", [b"u 1_0\n", b"u 3-4\n", b"u 3.5\n", b"u 2147483648\n", b"u \xd9\xa1\n", b"u 1\xc2\xa02\n"]
)
def test_vectors_that_are_none(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(ValueError, match="^u: .*not a vector of 32-bit integers"):
        list(read_int_vectors(f"ark:{tmp_path}/x"))


@pytest.mark.parametrize("raw", [b"u ", b"u\r\nv 1\r\n"])
def test_a_vector_that_ends_before_it_begins(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(ValueError, match="cut short|expected a blank"):
        list(read_int_vectors(f"ark:{tmp_path}/x"))


def test_empty_vectors_in_text_come_back(tmp_path: Path) -> None:
    items = [("1", np.zeros(0, np.int32)), ("2", np.array([3], np.int32)), ("3", np.zeros(0, np.int32))]
    write_int_vectors(f"ark,t:{tmp_path}/x", items)
    expected = [("1", []), ("2", [3]), ("3", [])]
    assert _ours(read_int_vectors, f"ark:{tmp_path}/x") == expected
    assert _kaldis(tmp_path, "SequentialInt32VectorReader", "ark:{}/x") == expected


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Matrices a, b and c of 20 rows by 3, and the vectors of their first columns."""
    matrices = {key: np.arange(60, dtype=np.float32).reshape(20, 3) + k for k, key in enumerate("abc")}
    with MatrixWriter(f"ark,scp:{tmp_path}/f.ark,{tmp_path}/feats.scp") as writer:
        for key, matrix in matrices.items():
            writer.write(key, matrix)
    vectors = ((key, matrix[:, 0].astype(np.int32)) for key, matrix in matrices.items())
    write_int_vectors(f"ark,scp:{tmp_path}/v.ark,{tmp_path}/v.scp", vectors)
    (tmp_path / "feats.scp.gz").write_bytes(gzip.compress((tmp_path / "feats.scp").read_bytes()))
    (tmp_path / "v.scp.gz").write_bytes(gzip.compress((tmp_path / "v.scp").read_bytes()))
    return tmp_path


@pytest.mark.parametrize(
    ("rspecifier", "keys"),
    [
        ("scp:head -n 2 {}/NAME.scp |", "ab"),
        ("scp:{}/NAME.scp.gz", "abc"),
        ("scp,p,s,cs:{}/NAME.scp", "abc"),
        ("ark,o,bg:cat {}/ARK |", "abc"),
        ("scp:gunzip -c {}/NAME.scp.gz | tail -n 1 |", "c"),
    ],
)
def test_script_files_are_any_rxfilename(rspecifier: str, keys: str, table: Path) -> None:
    for read, name, ark in ((read_matrices, "feats", "f.ark"), (read_int_vectors, "v", "v.ark")):
        source = rspecifier.format(table).replace("NAME", name).replace("ARK", ark)
        assert [key for key, _ in read(source)] == list(keys)


def test_a_script_on_standard_input(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for read, name in ((read_matrices, "feats.scp"), (read_int_vectors, "v.scp")):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO((table / name).read_bytes())))
        assert [key for key, _ in read("scp:-")] == ["a", "b", "c"]


@pytest.mark.parametrize("read", [read_matrices, read_int_vectors])
def test_permissive_leaves_out_what_cannot_be_read_and_says_so(
    read: Any, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "feats.scp" if read is read_matrices else "v.scp"
    lines = (table / name).read_text().splitlines()
    (table / "p.scp").write_text(f"{lines[0]}\ngone {table}/gone.ark:7\n{lines[2]}\n")
    assert [key for key, _ in read(f"scp,p:{table}/p.scp")] == ["a", "c"]
    assert f"gone: {table}/gone.ark: No such file" in capsys.readouterr().err
    with pytest.raises(ValueError, match="^gone: "):
        list(read(f"scp:{table}/p.scp"))


@pytest.mark.parametrize(
    ("rspecifier", "sentence"),
    [
        ("ark,scp:a,b", "not from both"),
        ("ark,f:a", "option 'f' before the colon is not supported"),
    ],
)
def test_rspecifiers_that_are_none(rspecifier: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_rspecifier(rspecifier)


def test_the_archive_is_named_before_its_script() -> None:
    with pytest.raises(ValueError, match="expected two names, as in ark,scp:"):
        parse_wspecifier("scp,ark:feats.scp,feats.ark")


@pytest.mark.parametrize(
    "text", ["5:19", "5:20", "5:21", "5:22", "0:0", "19:22", "0:22,1:2", ":,0:1", "3:7,:"]
)
def test_rows_up_to_three_past_the_end(text: str, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _range(table, text)
    expected = _kaldis(table, "SequentialFloatMatrixReader", "scp:{}/r.scp")
    scp = MatrixScp(table / "r.scp")
    assert [("a", scp["a"].tolist())] == expected
    assert scp.num_frames("a") == len(expected[0][1])
    past = int(text.partition(",")[0].partition(":")[2] or 0) - 19
    said = capsys.readouterr().err.count(f"ends {past} rows past the matrix")
    assert said == int(past > 0)


@pytest.mark.parametrize(
    "text", ["5:23", "20:21", "0:-1", "7:6", "0:5,0:3", "-1:3", "0:5,3:3", "1_0:1_1", "5", "0:1,0:1,0:1"]
)
def test_ranges_that_do_not_fit(text: str, table: Path) -> None:
    _range(table, text)
    with pytest.raises(ValueError, match="^a: .*(does not fit|expected a range|No such file)"):
        MatrixScp(table / "r.scp")["a"]


def _range(table: Path, text: str) -> None:
    line = (table / "feats.scp").read_text().splitlines()[0]
    (table / "r.scp").write_text(f"{line}[{text}]\n")


def test_long_ids_are_written_and_read_or_neither(tmp_path: Path) -> None:
    longest = "長" * (MAX_ID_BYTES // 3)
    one = np.ones((1, 1), dtype=np.float32)
    with MatrixWriter(f"ark,scp:{tmp_path}/f.ark,{tmp_path}/f.scp") as writer:
        writer.write(longest, one)
        with pytest.raises(ValueError, match=f"an id of more than {MAX_ID_BYTES} bytes"):
            writer.write(longest + "長", one)
    for source in ("f.ark", "f.scp"):
        assert [key for key, _ in read_matrices(tmp_path / source)] == [longest]
    (tmp_path / "f.scp").write_text(f"{longest}xx f.ark\n")
    with pytest.raises(ValueError, match=rf"an id of more than {MAX_ID_BYTES} bytes \(in .*f.scp, line 1\)"):
        MatrixScp(tmp_path / "f.scp")


@pytest.mark.parametrize("utt_id", ["", "a b", "a\nb", "a\fb", "a\0b", "caf\udce9"])
def test_ids_that_no_table_can_hold(utt_id: str, tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="not a Kaldi utterance id"),
        MatrixWriter(tmp_path / "x") as writer,
    ):
        writer.write(utt_id, np.ones((1, 1), dtype=np.float32))


def test_an_id_with_a_no_break_space_is_one_word(tmp_path: Path) -> None:
    write_int_vectors(f"ark,t:{tmp_path}/x", [("10\xa0km", np.array([1], np.int32))])
    assert _ours(read_int_vectors, f"ark:{tmp_path}/x") == [("10\xa0km", [1])]
