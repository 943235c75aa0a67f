"""Where a table goes: a file, which gets its name when all is written, a command, or standard output.

Source: Kaldi ``src/util/kaldi-io.cc`` (``ClassifyWxfilename``).
"""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from asr_bn.kaldi_io.plain_text import WHITESPACE
from asr_bn.kaldi_io.rxfilename import kill_session
from asr_bn.kaldi_io.specifiers import Wspecifier
from asr_bn.system.files import atomic_stream, naming_errors

_OFFSET = re.compile(r":[0-9]+$")


@contextmanager
def open_table(target: Wspecifier) -> Iterator[tuple[IO[bytes], IO[bytes] | None]]:
    """Open an archive and, where one is asked for, its script file.

    The archive gets its name first; an old script file is removed before that, so that none points into an
    archive that it was not written for.

    Raises:
        OSError: see `open_output`.
        ValueError: see `open_output`; a script file to an archive that cannot be read by its lines.
    """
    if target.script is None:
        with open_output(target.archive) as archive:
            yield archive, None
        return
    _check_pair(target.archive, target.script)
    old = Path(target.script) if is_file_name(target.script) else None
    with open_output(target.script) as script, open_output(target.archive, old) as archive:
        yield archive, script


@contextmanager
def open_output(name: str, companion: Path | None = None) -> Iterator[IO[bytes]]:
    """Open ``name`` for writing: a file, ``| command``, or standard output (``-``, or nothing).

    Args:
        companion: see `atomic_path`.

    Raises:
        OSError: it cannot be opened, or written to its end (the message names it).
        ValueError: a name that Kaldi does not write to either; a command that fails.
    """
    if is_file_name(name):
        check_name(name)
        with atomic_stream(Path(name), companion) as stream:
            yield stream
    elif name.startswith("|"):
        with _open_command(name) as stream:
            yield stream
    elif sys.stdout is None:
        raise OSError(errno.EBADF, "is closed", "standard output")
    else:
        with naming_errors("standard output"):
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()


def check_name(name: str) -> None:
    """Refuse names that Kaldi would read as something else, and therefore refuses too."""
    if name != name.strip(WHITESPACE) or "|" in name:
        raise ValueError(f"{name!r}: no name for a file (a command to write to begins with |)")
    if _OFFSET.search(name):
        raise ValueError(f"{name}: no name for a file (a number after a colon is read as an offset)")


def check_archive_name(name: str) -> None:
    """Refuse the name of an archive that the lines of a script file cannot hold.

    Raises:
        ValueError: it has a line break, or bytes that are not UTF-8.
    """
    check_name(name)
    if "\n" in name or "\r" in name:
        raise ValueError(f"{name!r}: a name with a line break, which no script file can hold")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        raise ValueError(f"{shown}: not UTF-8, which a script file has to be") from error


def _check_pair(archive: str, script: str) -> None:
    if not is_file_name(archive):
        raise ValueError(f"{archive or '-'}: a script file needs an archive that is a file")
    check_archive_name(archive)
    if os.path.realpath(archive) == os.path.realpath(script):
        raise ValueError(f"{archive}: archive and script file have the same name")


def is_file_name(name: str) -> bool:
    """Return False for a command and for standard output."""
    return name not in ("", "-") and not name.startswith("|")


@contextmanager
def _open_command(name: str) -> Iterator[IO[bytes]]:
    """Open the standard input of ``| command``, run by ``/bin/sh``; stop it if the block fails."""
    process = subprocess.Popen(["/bin/sh", "-c", name[1:]], stdin=subprocess.PIPE, start_new_session=True)
    if process.stdin is None:
        raise ValueError(f"{name}: no input to write to")
    has_gone = False
    try:
        yield process.stdin
        process.stdin.close()
    except BrokenPipeError:
        has_gone = True
    except BaseException:
        kill_session(process)
        process.wait()
        raise
    finally:
        with suppress(OSError):
            process.stdin.close()
    if code := process.wait():
        raise ValueError(f"{name}: the command failed with exit code {code}")
    if has_gone:
        raise ValueError(f"{name}: the command ended before it had read everything")
