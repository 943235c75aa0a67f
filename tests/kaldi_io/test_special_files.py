"""Writing to names that are not plain files: what is behind them gets the bytes, and they stay what they are.

The oracle is what any program that opens the name and writes to it does, ``cat`` for instance.
"""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from asr_bn.kaldi_io.int_vector_table import read_int_vectors, write_int_vectors
from asr_bn.kaldi_io.matrix_table import MatrixScp, MatrixWriter, read_matrices
from asr_bn.system.files import atomic_path, atomic_stream, find_place, write_bytes, write_json

ITEMS = [("a", np.array([3, 1, 2], dtype=np.int32)), ("b", np.array([7], dtype=np.int32))]
MATRIX = np.arange(6, dtype=np.float32).reshape(3, 2)


def drain(path: Path, into: list[bytes]) -> threading.Thread:
    """Read ``path`` to its end, as another process would."""
    thread = threading.Thread(target=lambda: into.append(path.read_bytes()), daemon=True)
    thread.start()
    return thread


def node(path: Path, minor: int) -> Path:
    """A private copy of /dev/null (3) or /dev/full (7)."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
    except PermissionError:
        pytest.skip("only root makes devices")
    return path


def test_a_device_stays_one(tmp_path: Path) -> None:
    null = node(tmp_path / "null", 3)
    write_bytes(null, b"some")
    write_json(null, {"a": 1})
    with atomic_path(null) as temporary:
        temporary.write_bytes(b"more")
    assert write_int_vectors(f"ark:{null}", ITEMS) == 2
    assert stat.S_ISCHR(null.stat().st_mode)
    assert list(tmp_path.iterdir()) == [null]


def test_a_full_device_is_named(tmp_path: Path) -> None:
    full = node(tmp_path / "full", 7)
    for write in (
        lambda: write_bytes(full, b"some"),
        lambda: write_int_vectors(f"ark:{full}", ITEMS),
    ):
        with pytest.raises(OSError) as caught:
            write()
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(full))


def test_a_fifos_reader_gets_the_bytes(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for write in (
        lambda: write_bytes(fifo, b"all of it"),
        lambda: _through_a_temporary_name(fifo),
    ):
        got: list[bytes] = []
        reader = drain(fifo, got)
        write()
        reader.join(10)
        assert got == [b"all of it"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def _through_a_temporary_name(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"all of it")


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed_and_stays(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "storage").mkdir()
    (tmp_path / "exp").mkdir()
    real, link, second = tmp_path / "storage/real", tmp_path / "exp/link", tmp_path / "exp/second"
    if exists:
        real.write_bytes(b"old")
    link.symlink_to("../storage/real")
    second.symlink_to("link")
    write_bytes(second, b"new")
    assert real.read_bytes() == b"new"
    assert link.is_symlink() and second.is_symlink() and not real.is_symlink()
    assert [path.name for path in (tmp_path / "storage").iterdir()] == ["real"]


def test_a_link_to_a_disk_that_is_missing_makes_no_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "disk/real")
    with pytest.raises(FileNotFoundError) as caught:
        write_bytes(tmp_path / "link", b"new")
    assert caught.value.filename == str(tmp_path / "link")
    assert not (tmp_path / "disk").exists()
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError) as loop:
        write_bytes(tmp_path / "a", b"")
    assert loop.value.errno == errno.ELOOP


def test_an_open_descriptor_is_written_where_it_stands(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from asr_bn.system.files import atomic_path, write_bytes\n"
        "print('before', flush=True); write_bytes(Path('/dev/stdout'), b'middle\\n')\n"
        "with atomic_path(Path('/dev/fd/1')) as name: name.write_bytes(b'after\\n')\n"
    )
    out = tmp_path / "out"
    out.write_bytes(b"first\n")
    with out.open("ab") as stream:
        subprocess.run([sys.executable, "-c", code], stdout=stream, check=True)
    assert out.read_bytes() == b"first\nbefore\nmiddle\nafter\n"
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert piped.stdout == b"before\nmiddle\nafter\n"


@pytest.mark.parametrize("name", ["folder", "folder/.", ".."])
def test_a_folder_is_named_as_it_was_given(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder") as caught:
        write_bytes(tmp_path / name, b"")
    assert caught.value.filename == str(tmp_path / name)
    with pytest.raises(ValueError, match=r"no file name has a NUL byte"):
        find_place(tmp_path / "a\0b")


def test_a_long_name_is_no_longer_in_its_making(tmp_path: Path) -> None:
    write_bytes(tmp_path / ("n" * 255), b"whole")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"whole"


def test_an_error_of_something_else_keeps_its_words(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_stream(tmp_path / "out"):
        (tmp_path / "input").read_bytes()
    assert caught.value.filename == str(tmp_path / "input")
    with pytest.raises(OSError, match="not a gzip file"), atomic_stream(tmp_path / "out"):
        raise OSError("not a gzip file")


def test_a_command_gets_the_archive(tmp_path: Path) -> None:
    packed = tmp_path / "pdf 1.gz"
    assert write_int_vectors(f"ark:| gzip -c > '{packed}'", ITEMS) == 2
    assert [(utt, ids.tolist()) for utt, ids in read_int_vectors(f"ark:gunzip -c '{packed}' |")] == [
        (utt, ids.tolist()) for utt, ids in ITEMS
    ]
    with MatrixWriter(f"ark,t:|cat > '{tmp_path}/text.ark'") as writer:
        writer.write("u", MATRIX)
    assert np.array_equal(dict(read_matrices(f"ark:{tmp_path}/text.ark"))["u"], MATRIX)


def test_a_command_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^\| exit 3: the command failed with exit code 3$"):
        write_int_vectors("ark:| exit 3", ITEMS)
    many = [(str(number), np.zeros(50_000, np.int32)) for number in range(4)]
    with pytest.raises(ValueError, match="ended before it had read everything"):
        write_int_vectors("ark:| head -c 1 > /dev/null", many)
    broken = tmp_path / "never"
    with pytest.raises(ValueError, match="written twice"):
        write_int_vectors(f"ark:| cat > /dev/null && touch {broken}", [*ITEMS, ITEMS[0]])
    assert not broken.exists()  # it was stopped, and did not take half an archive for a whole one


def test_standard_output_is_what_no_name_means() -> None:
    code = "from tests.kaldi_io.test_special_files import *; write_int_vectors('ark,t:', ITEMS)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout == b"a 3 1 2 \nb 7 \n"


def test_standard_output_that_is_closed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # as after >&- in a shell
    with pytest.raises(OSError) as caught:
        write_int_vectors("ark:-", ITEMS)
    assert caught.value.filename == "standard output"


@pytest.mark.parametrize(
    ("wspecifier", "message"),
    [
        ("ark:a |", "no name for a file"),
        ("ark:a| gzip", "no name for a file"),
        ("ark:a.ark:12", "a number after a colon is read as an offset"),
        ("ark,scp:-,s", "^-: a script file needs an archive that is a file"),
        ("ark,scp:|cat,s", r"^\|cat: a script file needs an archive that is a file"),
        ("ark,scp:same,./same", "archive and script file have the same name"),
        ("ark,scp:a\nb,s", "a name with a line break"),
        ("ark,scp:a\udce9,s", r"^a\\xe9: not UTF-8"),
        ("ark,scp:a, s", "no name for a file"),
    ],
)
@pytest.mark.parametrize("kind", ["matrices", "vectors"])
def test_names_that_mislead_are_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, wspecifier: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)

    def items():
        pytest.fail("computed before the name was looked at")
        yield "u", MATRIX

    with pytest.raises(ValueError, match=message):
        if kind == "vectors":
            write_int_vectors(wspecifier, items())
        else:
            with MatrixWriter(wspecifier) as writer:
                for item in items():
                    writer.write(*item)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing", ["archive", "script"])
def test_no_script_file_describes_an_archive_that_it_was_not_written_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Whichever rename fails (a disk that has gone), what is left is the old pair, or an archive alone."""
    monkeypatch.chdir(tmp_path)
    names = {"archive": "f.ark", "script": "f.scp"}
    with MatrixWriter("ark,scp:f.ark,f.scp") as writer:
        writer.write("old", MATRIX)
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if target.name == names[failing]:
            raise OSError(errno.EIO, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError) as caught, MatrixWriter("ark,scp:f.ark,f.scp") as writer:
        writer.write("another", MATRIX)
    assert caught.value.filename == names[failing]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.ark"]
    assert [utt_id for utt_id, _ in read_matrices("ark:f.ark")] == [
        "old" if failing == "archive" else "another"
    ]


def test_a_failing_writer_leaves_the_old_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk").mkdir()
    (tmp_path / "f.ark").symlink_to("disk/f.ark")
    with MatrixWriter("ark,scp:f.ark,f.scp") as writer:
        writer.write("old", MATRIX)
    with pytest.raises(ValueError, match="written twice"), MatrixWriter("ark,scp:f.ark,f.scp") as writer:
        writer.write("new", MATRIX)
        writer.write("new", MATRIX)
    assert (tmp_path / "f.ark").is_symlink()
    assert np.array_equal(MatrixScp(Path("f.scp"))["old"], MATRIX)
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["f.ark"]
