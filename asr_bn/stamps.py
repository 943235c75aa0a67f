"""Stamps: how a recipe's stage knows that its work is already done, and complete.

A stage writes its outputs first and its stamp last, so that a stage that was killed has no stamp and
runs again.  The stamp holds what the outputs were made from; when that changes, the stage runs again too.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from asr_bn.files import read_json, sha256_of_file, write_json


def fingerprint(inputs: Mapping[str, Any], files: Iterable[Path] = ()) -> str:
    """SHA-256 over ``inputs`` (anything JSON can hold) and the contents of ``files``."""
    contents = {str(path): sha256_of_file(path) for path in files}
    text = json.dumps({"inputs": inputs, "files": contents}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def is_done(stamp: Path, made_from: str, outputs: Iterable[Path]) -> bool:
    """True if every output exists and ``stamp`` says that they were made from ``made_from``."""
    if not stamp.is_file() or not all(path.exists() for path in outputs):
        return False
    return bool(read_json(stamp).get("made_from") == made_from)


def mark_done(stamp: Path, made_from: str) -> None:
    """Write ``stamp``; call it after the last output has its final name."""
    write_json(stamp, {"made_from": made_from})
