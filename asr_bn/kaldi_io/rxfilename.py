"""Kaldi's "extended filenames": a path, a path with an offset, a pipe, or the standard streams.

Source: Kaldi ``src/util/kaldi-io.h``.  One addition: a gzip file is unpacked wherever it is named.
"""

import gzip
import io
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from asr_bn.kaldi_io.plain_text import WHITESPACE

PIPE_TIMEOUT_S = 600.0
"""How long a command may take for a recording, or be silent while a table is read: then it hangs."""
_READ_BLOCK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class PipePolicy:
    """Whether commands in rxfilenames are run, and for how long one may keep us waiting (seconds)."""

    allowed: bool = True
    timeout_s: float = PIPE_TIMEOUT_S

    def check(self, rxfilename: str) -> None:
        """Raise ``ValueError`` if pipes are refused."""
        if not self.allowed:
            raise ValueError(f"{rxfilename}: pipes are refused here (--no-pipes)")


DEFAULT_PIPES = PipePolicy()


def is_pipe(rxfilename: str) -> bool:
    """True for ``command |``."""
    return rxfilename.rstrip(WHITESPACE).endswith("|")


def split_offset(rxfilename: str) -> tuple[str, int]:
    """``"a.ark:12"`` is ``("a.ark", 12)``; without an offset (digits after the last colon) it is 0."""
    path, colon, digits = rxfilename.rpartition(":")
    if colon and path and digits.isascii() and digits.isdigit():
        return path, int(digits)
    return rxfilename, 0


def resolve(path: str, root: Path | None) -> Path:
    """``path`` as seen from ``root`` (default: the current folder).

    Raises:
        ValueError: no file can have that name.
    """
    if "\0" in path:
        raise ValueError(f"{path!r}: no file name has a NUL byte")
    return Path(path) if root is None else root / path


@contextmanager
def open_input(
    rxfilename: str, root: Path | None = None, pipes: PipePolicy = DEFAULT_PIPES
) -> Iterator[IO[bytes]]:
    """Open an rxfilename for reading; a gzip file comes unpacked.

    Raises:
        OSError: no such file.
        ValueError: pipes are refused, the command failed (its standard error is in the message) or is
            silent for longer than ``pipes.timeout_s``, or a gzip file is cut short or corrupt.
    """
    rxfilename = rxfilename.strip(WHITESPACE)
    if rxfilename in ("", "-"):
        yield sys.stdin.buffer
    elif is_pipe(rxfilename):
        pipes.check(rxfilename)
        with _open_pipe(rxfilename, root, pipes.timeout_s) as stream:
            yield stream
    else:
        if "|" in rxfilename and not resolve(rxfilename, root).exists():
            raise ValueError(f"{rxfilename}: a pipe to read from has its | at the end, and only there")
        name, offset = split_offset(rxfilename)
        if name != rxfilename and not resolve(name, root).exists() and resolve(rxfilename, root).exists():
            name, offset = rxfilename, 0  # a file whose own name ends in a colon and digits
        with open_file(resolve(name, root), offset) as stream:
            yield stream


@contextmanager
def naming(utt_id: str) -> Iterator[None]:
    """Make errors inside begin with the utterance: ``ValueError`` all of them."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{utt_id}: {error.filename}: {error.strerror or error}") from error
    except ValueError as error:
        if str(error).startswith(f"{utt_id}: "):
            raise
        raise ValueError(f"{utt_id}: {error}") from error


@contextmanager
def open_file(path: Path, offset: int = 0) -> Iterator[IO[bytes]]:
    """Open a file at ``offset`` for reading; a gzip file comes unpacked.

    Raises:
        OSError: no such file.
        ValueError: the offset lies past its end, or a gzip file is cut short or corrupt.
    """
    with path.open("rb") as stream:
        if stream.peek(2)[:2] == _GZIP_MAGIC:
            with gzip.open(stream) as unpacked, _gzip_errors(str(path)):
                unpacked.seek(offset)
                yield cast(IO[bytes], unpacked)
        else:
            _seek_inside(stream, offset, path)
            yield stream


def _seek_inside(stream: IO[bytes], offset: int, path: Path) -> None:
    if not offset:
        return  # what may be no file: a FIFO cannot seek
    size = os.fstat(stream.fileno()).st_size
    if offset >= size:
        raise ValueError(f"{path}:{offset}: the offset lies past the end of the file ({size} bytes)")
    stream.seek(offset)


@contextmanager
def _gzip_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{name}: gzip file cut short or corrupt ({error})") from error


@contextmanager
def _open_pipe(rxfilename: str, root: Path | None, timeout_s: float) -> Iterator[IO[bytes]]:
    # Its standard error goes to a file: a pipe that nobody reads would stop the command when full.
    with tempfile.TemporaryFile() as stderr, _start(rxfilename, root, stderr) as process:
        if process.stdout is None:
            raise ValueError(f"{rxfilename}: no output to read")
        try:
            yield io.BufferedReader(_Waiting(process.stdout, timeout_s))
            process.stdout.close()
            code = process.wait(timeout_s)
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            _kill(process)
            raise ValueError(f"{rxfilename}: silent for {timeout_s:g} seconds; stopped") from error
        except BaseException:
            _kill(process)
            raise
        stderr.seek(0)
        message = stderr.read()
    if code not in (0, -signal.SIGPIPE, 128 + signal.SIGPIPE):
        raise ValueError(_failure(rxfilename, code, message))


class _Waiting(io.RawIOBase):
    """A command's output; `TimeoutError` where it keeps a read waiting for too long."""

    def __init__(self, stream: IO[bytes], timeout_s: float) -> None:
        self._stream, self._timeout_s = stream, timeout_s
        self._selector = selectors.DefaultSelector()
        self._selector.register(stream, selectors.EVENT_READ)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._selector.select(self._timeout_s):
            raise TimeoutError
        return os.readv(self._stream.fileno(), [buffer])

    def close(self) -> None:
        if not self.closed:
            self._selector.close()
        super().close()


def run_pipe(rxfilename: str, root: Path | None = None, pipes: PipePolicy = DEFAULT_PIPES) -> bytes:
    """Everything that ``command |`` writes to standard output; ``/bin/sh`` runs it from ``root``.

    Raises:
        ValueError: pipes are refused; the command fails (its standard error is in the message), writes
            nothing, or takes longer than ``pipes.timeout_s``.
    """
    pipes.check(rxfilename)
    with _start(rxfilename, root, subprocess.PIPE) as process:
        try:
            output, message = process.communicate(timeout=pipes.timeout_s)
        except subprocess.TimeoutExpired as error:
            _kill(process)
            raise ValueError(
                f"{rxfilename}: still running after {pipes.timeout_s:g} seconds; stopped"
            ) from error
        except BaseException:
            _kill(process)
            raise
    if process.returncode != 0:
        raise ValueError(_failure(rxfilename, process.returncode, message))
    if not output:
        raise ValueError(f"{rxfilename}: the command wrote nothing")
    return output


def _start(rxfilename: str, root: Path | None, stderr: int | IO[bytes]) -> subprocess.Popen[bytes]:
    command = rxfilename.rstrip(WHITESPACE)[:-1].strip(WHITESPACE)
    # A session of its own, so that stopping it also stops what the shell started.
    return subprocess.Popen(
        ["/bin/sh", "-c", command],
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _failure(rxfilename: str, code: int, message: bytes) -> str:
    text = " ".join(message.decode("utf-8", "replace").split())[-500:]
    return f"{rxfilename}: the command failed with exit code {code}: {text or '(no message)'}"


def read_exact(stream: IO[bytes], num_bytes: int, where: str) -> bytes:
    """Exactly ``num_bytes`` bytes; never allocates much more than the stream really holds.

    Raises:
        ValueError: the stream ends before (``where`` says which file and utterance).
    """
    if num_bytes <= _READ_BLOCK:
        with _gzip_errors(where):
            data = stream.read(num_bytes)
        if len(data) != num_bytes:
            raise ValueError(f"{where}: cut short: expected {num_bytes} more bytes, found {len(data)}")
        return data
    buffer = io.BytesIO()
    while buffer.tell() < num_bytes:
        with _gzip_errors(where):
            block = stream.read(min(_READ_BLOCK, num_bytes - buffer.tell()))
        if not block:
            raise ValueError(f"{where}: cut short: expected {num_bytes} more bytes, found {buffer.tell()}")
        buffer.write(block)
    return buffer.getvalue()


def read_until(stream: IO[bytes], mark: bytes, most_bytes: int, where: str) -> bytes:
    """Everything before the byte ``mark``, which is read too, and nothing after it.

    Raises:
        ValueError: the stream ends before, or there is no mark within ``most_bytes``.
    """
    data = bytearray()
    with _gzip_errors(where):
        while len(data) < most_bytes:
            ahead = peek(stream)
            block = stream.read(ahead.find(mark) + 1 or len(ahead) or 1)
            data += block
            if block.endswith(mark):
                return bytes(data[:-1])
            if not block:
                break
    raise ValueError(f"{where}: cut short: found no {mark.decode()!r} in {len(data)} bytes")


def peek(stream: IO[bytes]) -> bytes:
    """Some of the bytes that come next, which stay; none at the end, or where a stream cannot tell."""
    look_ahead = getattr(stream, "peek", None)
    return b"" if look_ahead is None else bytes(look_ahead(1))
