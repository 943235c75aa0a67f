"""Writing files so that a name is either whole or absent.

Symbolic links are followed.  A device, a FIFO or an open descriptor (``/dev/stdout``, ``/dev/fd/63``) is
written through: it cannot be replaced by a file without breaking what is behind it.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO, TypeVar

_Value = TypeVar("_Value")
_LOCK_POLL_S = 0.2
_MAX_LINKS = 40
_NAME_PART = 40  # characters of a name in that of its temporary file, which must not get too long


@contextmanager
def atomic_path(path: Path, companion: Path | None = None) -> Iterator[Path]:
    """Yield the name of a temporary file; on success it becomes ``path``, on failure it is removed.

    The folder is made when it is missing.  The data are flushed to the disk before the rename, so that
    a power cut cannot leave an empty file under the final name.

    Args:
        companion: a file that is only good with the present ``path``, such as the script file of an archive;
            removed just before ``path`` is replaced.

    Raises:
        OSError: it cannot be written (the message names ``path``), or is a folder.
        ValueError: no file can have that name.
    """
    place, is_plain = find_place(path)
    with _replacing(path, place, companion) if is_plain else _copying_into(path, place) as temporary:
        yield temporary


@contextmanager
def atomic_stream(path: Path, companion: Path | None = None) -> Iterator[IO[bytes]]:
    """Yield a stream to write as `atomic_path` does; a device or descriptor gets the bytes at once."""
    place, is_plain = find_place(path)
    if is_plain:
        with atomic_path(path, companion) as temporary, temporary.open("wb") as stream:
            yield stream
    else:
        with naming_errors(path), _open_through(place) as stream:
            yield stream


def find_place(path: Path) -> tuple[Path, bool]:
    """Follow the links of ``path``; return where they lead and whether a file there may be replaced.

    Raises:
        OSError: it is a folder, or its links lead nowhere.
        ValueError: it holds a NUL byte.
    """
    if "\0" in str(path):
        raise ValueError(f"{str(path)!r}: no file name has a NUL byte")
    place = _follow(path)
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return place, True
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder, expected a file to write", str(path))
    return place, stat.S_ISREG(mode) and not _is_descriptor(place)


def remove_plain(path: Path) -> None:
    """Remove the file that ``path`` leads to; not a device, nor the links on the way."""
    place, is_plain = find_place(path)
    if is_plain:
        place.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_stream(path) as stream:
        stream.write(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path`` atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON to ``path`` atomically; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, kind: type[_Value]) -> _Value:
    """Read a JSON file whose value is a ``kind``, such as ``dict``.

    Raises:
        ValueError: it is not JSON, or holds another kind of value (the message names the file).
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(value, kind):
        raise ValueError(f"{path}: holds a JSON {type(value).__name__}, expected a {kind.__name__}")
    return value


def sha256_of_file(path: Path) -> str:
    """Compute the hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def locked_folder(folder: Path, patience_s: float = 0.0) -> Iterator[None]:
    """Make ``folder`` and keep other runs out of it until the block, or the process, ends.

    Args:
        patience_s: how long to wait for another run there to end.

    Raises:
        ValueError: another run is going on there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience_s
    with (folder / ".lock").open("w") as stream:
        while not _try_lock(stream):
            if time.monotonic() >= deadline:
                raise ValueError(f"{folder}: another run is going on there; wait for it, or stop it")
            time.sleep(_LOCK_POLL_S)
        yield


def _try_lock(stream: TextIO) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _follow(path: Path) -> Path:
    for _ in range(_MAX_LINKS):
        place = Path(os.path.realpath(path.parent), path.name)
        if _is_descriptor(place) or not place.is_symlink():
            return place
        path = place.parent / place.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _is_descriptor(place: Path) -> bool:
    """Return whether it is ``/proc/PID/fd/N``, a link whose target often has no name in the file system."""
    return place.parent.name == "fd" and place.parts[:2] == ("/", "proc")


def _open_through(place: Path) -> IO[bytes]:
    if _is_descriptor(place) and place.parts[2] == str(os.getpid()):
        return os.fdopen(os.dup(int(place.name)), "wb")  # opening it anew would begin at its file's start
    return open(place, "wb", opener=lambda name, _: os.open(name, os.O_WRONLY))


@contextmanager
def _copying_into(path: Path, place: Path) -> Iterator[Path]:
    with naming_errors(path), tempfile.TemporaryDirectory() as folder, _open_through(place) as stream:
        temporary = Path(folder, "data")
        yield temporary
        with temporary.open("rb") as written:
            shutil.copyfileobj(written, stream)


@contextmanager
def _replacing(path: Path, place: Path, companion: Path | None) -> Iterator[Path]:
    temporary = _temporary_beside(path, place)
    try:
        with naming_errors(path, temporary):
            yield temporary
            _flush_to_disk(temporary)
            temporary.chmod(0o666 & ~_current_umask())
            if companion is not None:
                remove_plain(companion)
            temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary_beside(path: Path, place: Path) -> Path:
    if place.parent == Path(os.path.realpath(path.parent)):
        place.parent.mkdir(parents=True, exist_ok=True)  # but not where a link leads: a disk may be missing
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{place.name[:_NAME_PART]}.", suffix=".tmp", dir=place.parent
        )
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    os.close(handle)
    return Path(name)


@contextmanager
def naming_errors(path: Path | str, temporary: Path | None = None) -> Iterator[None]:
    """Make an `OSError` name ``path`` if it names nothing (a full disk), or ``temporary``."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
