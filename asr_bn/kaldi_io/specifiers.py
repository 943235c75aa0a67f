"""Kaldi's table specifiers: ``ark:FILE``, ``scp:FILE``, ``ark,t:-``, ``ark,scp:A,B``.

Source: Kaldi ``src/util/kaldi-table.h``.  Options that only ask for leniency or order (``o``, ``s``,
``cs``, ``bg``) are accepted and need nothing here; ``p`` (permissive) is refused, since it skips errors.
"""

from dataclasses import dataclass
from pathlib import Path

_RSPECIFIER_OPTIONS = {"o", "no", "s", "ns", "cs", "ncs", "np", "b", "t", "bg"}
_WSPECIFIER_OPTIONS = {"b", "t", "f", "nf"}


@dataclass(frozen=True)
class Rspecifier:
    """Where a table is read from: an archive or, with ``is_script``, a script file."""

    rxfilename: str
    is_script: bool


@dataclass(frozen=True)
class Wspecifier:
    """Where a table is written to: an archive, a script file beside it, and whether as text."""

    archive: str
    script: str | None
    text: bool


def parse_rspecifier(rspecifier: str | Path) -> Rspecifier:
    """``ark:``/``scp:`` specifier, or a bare path: ``*.scp`` is a script file, anything else an archive.

    Raises:
        ValueError: an unknown option before the colon.
    """
    if isinstance(rspecifier, str):
        options, colon, rxfilename = rspecifier.partition(":")
        words = [word.strip() for word in options.split(",")]
        if colon and ("ark" in words or "scp" in words):
            _check_options(rspecifier, set(words) - {"ark", "scp"}, _RSPECIFIER_OPTIONS)
            return Rspecifier(rxfilename.strip(), "scp" in words)
    return Rspecifier(str(rspecifier), str(rspecifier).endswith(".scp"))


def parse_wspecifier(wspecifier: str | Path) -> Wspecifier:
    """``ark:``, ``ark,t:``, ``ark,scp:A,B`` specifier, or a bare path, which is a binary archive.

    Raises:
        ValueError: ``scp:`` alone (it would need the archive's name), an unknown option, not two names.
    """
    if isinstance(wspecifier, Path):
        return Wspecifier(str(wspecifier), None, False)
    options, colon, names = wspecifier.partition(":")
    words = [word.strip() for word in options.split(",")]
    if not colon or not {"ark", "scp"} & set(words):
        return Wspecifier(wspecifier, None, False)
    _check_options(wspecifier, set(words) - {"ark", "scp"}, _WSPECIFIER_OPTIONS)
    if "ark" not in words:
        raise ValueError(f"{wspecifier}: give the archive too, as in ark,scp:feats.ark,feats.scp")
    if "scp" not in words:
        return Wspecifier(names.strip(), None, "t" in words)
    archive, comma, script = names.strip().partition(",")
    if not comma or not archive or not script:
        raise ValueError(f"{wspecifier}: expected two names, as in ark,scp:feats.ark,feats.scp")
    return Wspecifier(archive, script, "t" in words)


def _check_options(specifier: str, given: set[str], known: set[str]) -> None:
    unknown = sorted(given - known)
    if unknown:
        raise ValueError(f"{specifier}: option {unknown[0]!r} before the colon is not supported")
