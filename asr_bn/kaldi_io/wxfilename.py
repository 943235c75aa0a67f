"""Where a table goes: a file, which gets its name when all is written, or standard output (``-``)."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from asr_bn.files import atomic_path


@contextmanager
def open_output(name: str) -> Iterator[IO[bytes]]:
    """Open ``name`` for writing.

    Raises:
        OSError: it cannot be opened, or written to its end (the message names it).
    """
    try:
        if name == "-":
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        else:
            with atomic_path(Path(name)) as temporary, temporary.open("wb") as stream:
                yield stream
    except OSError as error:
        if error.filename is not None:
            raise
        # A failing write does not say where: a disk that is full, a reader that has gone.
        where = "standard output" if name == "-" else name
        raise OSError(error.errno, error.strerror, where) from error
