"""Stamps: how a recipe's stage knows that its work is already done, and complete.

A stage writes its outputs first and its stamp last, so that a stage that was killed has no stamp and
runs again.  The stamp holds what the outputs were made from; when that changes, the stage runs again too.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from asr_bn.system.files import read_json, sha256_of_file, write_json


def fingerprint(inputs: Mapping[str, object], files: Iterable[Path] = (), large: Iterable[Path] = ()) -> str:
    """Compute the SHA-256 over ``inputs`` (anything JSON can hold) and over ``files``.

    Args:
        files: compared by their contents.
        large: compared by size and time of change, since reading audio takes as long as the work.
    """
    contents = {str(path): sha256_of_file(path) for path in files}
    text = json.dumps({"inputs": inputs, "files": contents}, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode("utf-8"))
    for path in large:
        digest.update(f"{path} {_size_and_time(path)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def is_done(stamp: Path, made_from: str, outputs: Iterable[Path]) -> bool:
    """Return whether every output exists and ``stamp`` says that they were made from ``made_from``.

    An output that is a device or a FIFO keeps nothing, and is never done.
    A stamp that says otherwise is removed: a run that is then killed must not leave it beside new outputs.
    """
    if stamp.is_file() and all(path.is_file() for path in outputs) and _made_from(stamp) == made_from:
        return True
    stamp.unlink(missing_ok=True)
    return False


def mark_done(stamp: Path, made_from: str) -> None:
    """Write ``stamp``; call it after the last output has its final name."""
    write_json(stamp, {"made_from": made_from})


def _made_from(stamp: Path) -> object:
    try:
        return read_json(stamp, dict).get("made_from")
    except ValueError:
        return None  # no stamp of ours


def _size_and_time(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "missing"  # reported, with its utterance, when it is to be read
    return f"{status.st_size} {status.st_mtime_ns}"
