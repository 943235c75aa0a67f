"""Kaldi's text files: lines and tables by hand."""

import gzip
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from asr_bn.kaldi_io.matrix_table import MatrixScp
from asr_bn.kaldi_io.phone_table import read_phone_names
from asr_bn.kaldi_io.rxfilename import PipePolicy, open_input
from asr_bn.kaldi_io.script_file import read_count, read_lines, read_table

STRANGE = "\x1c\x85\xa0\u2028\u3000"


def test_lines_end_at_line_feeds_and_words_at_blanks(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(f"u{STRANGE}1 a{STRANGE}b \f\r\n \v\n\tv\n".encode())
    assert read_table(path, value_needed=False) == {f"u{STRANGE}1": f"a{STRANGE}b", "v": ""}
    assert list(read_lines(path)) == [(1, f"u{STRANGE}1 a{STRANGE}b"), (3, "v")]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\xef\xbb\xbfu a\n", r"t: begins with a byte order mark \(save it as UTF-8 without BOM\)$"),
        (b"u a\n\xef\xbb\xbfv b\n", "t, line 2: begins with a byte order mark"),
        ("u a\n".encode("utf-16"), "t: begins with a byte order mark"),
        (b"u a\nv \xe9\n", "t, line 2: not UTF-8"),
        (b"u\0 a\n", r"t, line 1: 'u\\x00 a' has a NUL byte in its id"),
        (
            "u\u3000a\n".encode(),
            r"^u\u3000a: nothing after the id in .*t, line 1 \(U\+3000 in it is no blank\)",
        ),
    ],
)
def test_lines_that_are_no_text_are_named(data: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(ValueError, match=sentence):
        read_table(tmp_path / "t")


def test_nul_bytes_in_lines_and_in_names_of_files(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"u a\0b\n")
    with pytest.raises(ValueError, match=r"t, line 1: 'u a\\x00b' has a NUL byte: not text"):
        list(read_lines(tmp_path / "t"))
    with pytest.raises(ValueError, match=r"^u: 'a\\x00b': no file name has a NUL byte"):
        MatrixScp(tmp_path / "t")["u"]


@pytest.mark.parametrize("mark", [b"\0", b"\xef\xbb\xbf", b"\xff"])
def test_a_fault_far_into_a_file_is_found_by_its_line(mark: bytes, tmp_path: Path) -> None:
    """What is read at a time ends somewhere inside a line, also inside a mark."""
    for length in range(60, 64):
        line = b"x" * length
        lines = [b"%d %s\n" % (number, line) for number in range(40_000)]
        (tmp_path / "t").write_bytes(b"".join([*lines, mark + b"u a\n"]))
        with pytest.raises(ValueError, match="t, line 40001: "):
            read_table(tmp_path / "t")
        (tmp_path / "t").write_bytes(b"".join(lines)[:-1])
        assert list(read_table(tmp_path / "t").values()) == [line.decode()] * 40_000


def test_an_endless_line_fills_no_memory() -> None:
    code = (
        "import resource; from asr_bn.kaldi_io.script_file import read_table\n"
        "size = 1 << 30; resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
        "try: read_table('yes | tr -dc y |')\n"
        "except ValueError as error: assert 'line 1: longer than' in str(error), error\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})


def test_gzip_files_pipes_and_fifos(tmp_path: Path) -> None:
    (tmp_path / "t.gz").write_bytes(gzip.compress(b"u a\n"))
    assert read_table(tmp_path / "t.gz") == {"u": "a"}
    assert read_table(f"gunzip -c {tmp_path}/t.gz |") == {"u": "a"}
    with pytest.raises(ValueError, match="pipes are refused"):
        read_table("true |", pipes=PipePolicy(allowed=False))
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=lambda: (tmp_path / "fifo").write_bytes(b"u a\n"))
    writer.start()
    assert read_table(tmp_path / "fifo") == {"u": "a"}
    writer.join()


@pytest.mark.parametrize("name", ["cat x | head", "| cat"])
def test_a_pipe_with_its_sign_in_another_place(name: str) -> None:
    with pytest.raises(ValueError, match=r"a pipe to read from has its \| at the end"), open_input(name):
        pass


def test_counts(tmp_path: Path) -> None:
    path = tmp_path / "num_pdfs"
    path.write_text("72 \r\n")
    assert read_count(path, "the number of pdfs") == 72
    for text in ("", "0", "-3", "7 2", "\u0667\u0662", "\xb2", "1_0", "3.0"):
        path.write_text(text)
        with pytest.raises(ValueError, match="num_pdfs: expected the number of pdfs, found"):
            read_count(path, "the number of pdfs")


def test_symbol_tables(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("<eps> 0\n\ncaf\xe9\xa0noir\t1\r\na\u2028b 2\n\u3000 3\n\n".encode())
    assert read_phone_names(path) == {0: "<eps>", 1: "caf\xe9\xa0noir", 2: "a\u2028b", 3: "\u3000"}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"a 1\nb\n", "words.txt:2: 'b', expected a name and a number"),
        (b"a 1_0\n", "words.txt:1: "),
        (b"a -1\n", "words.txt:1: "),
        (b"a b 1\n", "words.txt:1: "),
        ("a \u0661\n".encode(), "words.txt:1: "),
        (b"a 1\nb\n\xe9 2\n", "words.txt:2: "),
        (b"a 1\n\xe9 2\n", "words.txt, line 2: not UTF-8"),
        (b"\n", "words.txt: no names in it"),
        (b"a 1\nb 1\n", "words.txt:2: 'b 1', but the name or the number is another's already"),
        (b"a 1\nb 2\na 3\n", "words.txt:3: 'a 3', but"),
    ],
)
def test_symbol_tables_that_are_none(data: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(data)
    with pytest.raises(ValueError, match=sentence):
        read_phone_names(tmp_path / "words.txt")
