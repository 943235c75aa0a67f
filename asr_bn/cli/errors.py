"""The library's errors as one line and exit code 1, for every command line of this repository."""

import io
import os
import sys

import typer


def run(app: typer.Typer, name: str) -> None:
    """Run a command line called ``name``; ``ASR_BN_TRACEBACK=1`` shows where an error came from."""
    open_standard_descriptors()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # file names need not be UTF-8
    try:
        app()
    except (ValueError, OSError, MemoryError) as error:
        if os.environ.get("ASR_BN_TRACEBACK"):
            raise
        print(f"{name}: error: {describe(error)}", file=sys.stderr)
        sys.exit(1)


def open_standard_descriptors() -> None:
    """Open ``/dev/null`` as every standard descriptor that the caller closed.

    A file or socket opened later would take its number, and get what native code writes to standard error.
    """
    while (lowest := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(lowest, True)
    os.close(lowest)


def describe(error: Exception) -> str:
    """Say ``error`` in one line.

    That is the library's own sentence, the file and reason of an ``OSError``, or the lack of memory.
    """
    if isinstance(error, MemoryError):
        return ": ".join(["out of memory", *map(str, error.args)])
    if isinstance(error, OSError) and error.strerror:
        name = str(error.filename)
        shown = name if name.isprintable() else ascii(name)
        return f"{shown}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())
