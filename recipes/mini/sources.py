"""What a stage's outputs were made from: its options, and the recipe's own files."""

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import asr_bn
from asr_bn.system.files import sha256_of_file
from asr_bn.system.stamps import fingerprint


def made_from(inputs: Mapping[str, Any], files: Iterable[Path] = ()) -> str:
    """Return a fingerprint of ``inputs``, ``files``, this package's code and grammar, and the GMM's code."""
    folder = Path(__file__).parent
    gmm = sorted(Path(asr_bn.__file__).parent.glob("gmm/*.py"))
    paths = [*sorted([*folder.glob("*.py"), *folder.glob("*.txt")]), *gmm]
    sources = {f"{path.parent.name}/{path.name}": sha256_of_file(path) for path in paths}
    return fingerprint({"inputs": inputs, "sources": sources}, [path.resolve() for path in files])


def require(module: str) -> None:
    """Refuse to go on without an optional package.

    Raises:
        ValueError: it is not installed (the message says how to get it).
    """
    if importlib.util.find_spec(module) is None:
        raise ValueError(
            f"the embedded corpus needs the package {module.replace('_', '-')}: pip install 'asr-bn[mini]'"
            " (kaldi-hmm-gmm has no wheel for Linux on aarch64, so this corpus cannot be made there)"
        )
