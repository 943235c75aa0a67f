"""Kaldi's "extended filenames": a path, a path with an offset, a pipe, or the standard streams.

Source: Kaldi ``src/util/kaldi-io.h``.  One addition: a gzip file is unpacked wherever it is named.
"""

import gzip
import io
import os
import selectors
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from asr_bn.kaldi_io.byte_stream import gzip_errors
from asr_bn.kaldi_io.plain_text import WHITESPACE

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIPE_TIMEOUT_S = 600.0
"""Seconds that a command may take for a recording, or be silent while a table is read."""
MAX_SOURCE_BYTES = 1 << 32
"""Most bytes of one recording from a pipe, a device or a gzip file; a WAV file cannot be larger."""
_READ_BLOCK = 1 << 20
_HEAD_BYTES = 64
GZIP_MAGIC = b"\x1f\x8b"


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
    """Return whether it is ``command |``."""
    return rxfilename.rstrip(WHITESPACE).endswith("|")


def split_offset(rxfilename: str) -> tuple[str, int]:
    """Split ``"a.ark:12"`` into ``("a.ark", 12)``; without digits after the last colon the offset is 0."""
    path, colon, digits = rxfilename.rpartition(":")
    if colon and path and digits.isascii() and digits.isdigit():
        return path, int(digits)
    return rxfilename, 0


def resolve(path: str, root: Path | None) -> Path:
    """Resolve ``path`` relative to ``root`` (default: the current folder).

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
        ValueError: pipes are refused; the command failed (its standard error is in the message) or is
            silent for longer than ``pipes.timeout_s``; a gzip file is cut short or corrupt.
    """
    rxfilename = rxfilename.strip(WHITESPACE)
    if rxfilename in ("", "-"):
        yield sys.stdin.buffer
    elif is_pipe(rxfilename):
        pipes.check(rxfilename)
        with _open_pipe(rxfilename, root, pipes.timeout_s, whole=False) as stream:
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
def open_file(path: Path, offset: int = 0) -> Iterator[IO[bytes]]:
    """Open a file at ``offset`` for reading; a gzip file comes unpacked.

    Raises:
        OSError: no such file.
        ValueError: the offset lies past its end, or a gzip file is cut short or corrupt.
    """
    with path.open("rb") as stream:
        if stream.peek(2)[:2] == GZIP_MAGIC:
            with gzip.open(stream) as unpacked, gzip_errors(str(path)):
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
def _open_pipe(rxfilename: str, root: Path | None, timeout_s: float, whole: bool) -> Iterator[IO[bytes]]:
    """Open the output of a command that may take ``timeout_s`` as a ``whole``, or for each silence.

    Of output that ends too early the command's failure is reported, and not what its reader found wrong.
    """
    refusal: ValueError | None = None
    # Its standard error goes to a file: a pipe that nobody reads would stop the command when full.
    with tempfile.TemporaryFile() as stderr, _start(rxfilename, root, stderr) as process:
        if process.stdout is None:
            raise ValueError(f"{rxfilename}: no output to read")
        waiting = _Waiting(process.stdout, timeout_s, whole)
        try:
            try:
                yield io.BufferedReader(waiting)
            except ValueError as error:
                if not waiting.has_ended:
                    raise
                refusal = error
            process.stdout.close()
            code = process.wait(waiting.patience())
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            kill_session(process)
            what = "still running after" if whole else "silent for"
            raise ValueError(f"{rxfilename}: {what} {timeout_s:g} seconds; stopped") from error
        except BaseException:
            kill_session(process)
            raise
        stderr.seek(0)
        message = stderr.read()
    if code != 0 and (whole or code not in (-signal.SIGPIPE, 128 + signal.SIGPIPE)):
        raise ValueError(_failure(rxfilename, code, message)) from refusal
    if refusal is not None:
        raise refusal


class _Waiting(io.RawIOBase):
    """A command's output; `TimeoutError` where it keeps its reader waiting for too long."""

    def __init__(self, stream: IO[bytes], timeout_s: float, whole: bool) -> None:
        self._stream, self._timeout_s, self.has_ended = stream, timeout_s, False
        self._deadline = time.monotonic() + timeout_s if whole else None
        self._selector = selectors.DefaultSelector()
        self._selector.register(stream, selectors.EVENT_READ)

    def patience(self) -> float:
        """Return the seconds that it may still take."""
        return self._timeout_s if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        if not self._selector.select(self.patience()):
            raise TimeoutError
        num_bytes = os.readv(self._stream.fileno(), [buffer])
        self.has_ended = not num_bytes
        return num_bytes

    def close(self) -> None:
        if not self.closed:
            self._selector.close()
        super().close()


def read_source(
    rxfilename: str,
    root: Path | None,
    pipes: PipePolicy,
    check_head: Callable[[bytes], object],
    max_bytes: int = MAX_SOURCE_BYTES,
) -> bytes:
    """Read all that an rxfilename names, such as a recording; ``/bin/sh`` runs ``command |`` from ``root``.

    Args:
        check_head: called with the first bytes before the rest is read; raises to refuse the source, which
            may be endless, or a gzip file of zeros.
        max_bytes: limit for a pipe, a device or a gzip file; the size of a plain file is known.

    Raises:
        OSError: no such file, or it cannot be read.
        ValueError: see `open_input`; a command fails, writes nothing, or takes longer than
            ``pipes.timeout_s``; the source is larger than ``max_bytes``; what ``check_head`` raises.
    """
    rxfilename = rxfilename.strip(WHITESPACE)
    if not is_pipe(rxfilename):
        with open_input(rxfilename, root, pipes) as stream:
            return _read_all(stream, rxfilename, check_head, max_bytes)
    pipes.check(rxfilename)
    with _open_pipe(rxfilename, root, pipes.timeout_s, whole=True) as stream:
        head = stream.read(_HEAD_BYTES)
        ended = len(head) < _HEAD_BYTES  # then what it says on leaving matters more than what it wrote
        output = head if ended else _read_all(stream, rxfilename, check_head, max_bytes, head)
    if not output:
        raise ValueError(f"{rxfilename}: the command wrote nothing")
    if ended:
        check_head(output)
    return output


def _read_all(
    stream: IO[bytes], name: str, check_head: Callable[[bytes], object], max_bytes: int, head: bytes = b""
) -> bytes:
    if isinstance(stream, io.BufferedReader) and _is_plain_file(stream):
        check_head(stream.peek(_HEAD_BYTES)[:_HEAD_BYTES])
        return stream.read()
    head = head or stream.read(_HEAD_BYTES)
    check_head(head)
    buffer = io.BytesIO()
    while head:
        buffer.write(head)
        if buffer.tell() > max_bytes:
            raise ValueError(f"{name}: more than {max_bytes} bytes; stopped")
        head = stream.read(_READ_BLOCK)
    return buffer.getvalue()


def _is_plain_file(stream: io.BufferedReader) -> bool:
    return isinstance(stream.raw, io.FileIO) and stat.S_ISREG(os.fstat(stream.fileno()).st_mode)


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


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started in its session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _failure(rxfilename: str, code: int, message: bytes) -> str:
    text = " ".join(message.decode("utf-8", "replace").split())[-500:]
    return f"{rxfilename}: the command failed with exit code {code}: {text or '(no message)'}"
