"""The library's errors as one line and exit code 1, for every command line of this repository."""

import os
import sys

import typer


def run(app: typer.Typer, name: str) -> None:
    """Run a command line called ``name``; ``ASR_BN_TRACEBACK=1`` shows where an error came from."""
    try:
        app()
    except (ValueError, OSError, MemoryError) as error:
        if os.environ.get("ASR_BN_TRACEBACK"):
            raise
        print(f"{name}: error: {describe(error)}", file=sys.stderr)
        sys.exit(1)


def describe(error: Exception) -> str:
    """One line for ``error``: the library's own sentence, the file and reason of an ``OSError``, or the lack
    of memory."""
    if isinstance(error, MemoryError):
        return ": ".join(["out of memory", *map(str, error.args)])
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())
