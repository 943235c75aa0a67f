"""Kaldi's table specifiers: ``ark:FILE``, ``scp:FILE``, ``ark,t:-``, ``ark,scp:A,B``.

Source: Kaldi ``src/util/kaldi-table.h``.  Options of order and form (``o``, ``s``, ``cs``, ``bg``, ``b``) are
accepted and need nothing here.  ``p`` (permissive) leaves out, with a note, the entries of a script file that
cannot be read; a damaged archive stays an error.
"""

from dataclasses import dataclass
from pathlib import Path

from asr_bn.kaldi_io.plain_text import WHITESPACE

_RSPECIFIER_OPTIONS = {"o", "no", "s", "ns", "cs", "ncs", "p", "np", "b", "t", "bg"}
_WSPECIFIER_OPTIONS = {"b", "t", "f", "nf"}


@dataclass(frozen=True)
class Rspecifier:
    """Where a table is read from: an archive or, with ``is_script``, a script file."""

    rxfilename: str
    is_script: bool
    permissive: bool = False


@dataclass(frozen=True)
class Wspecifier:
    """Where a table is written to: an archive, a script file beside it, and whether as text."""

    archive: str
    script: str | None
    text: bool


def parse_rspecifier(rspecifier: str | Path) -> Rspecifier:
    """Parse ``ark:...``, ``scp:...`` or a bare path: ``*.scp`` is a script file, anything else an archive.

    Raises:
        ValueError: an unknown option before the colon, or both ``ark`` and ``scp``.
    """
    if not is_specifier(rspecifier):
        return Rspecifier(str(rspecifier), str(rspecifier).endswith(".scp"))
    words, rxfilename = _split(str(rspecifier))
    if {"ark", "scp"} <= set(words):
        raise ValueError(f"{rspecifier}: a table is read from ark: or scp:, not from both")
    _check_options(str(rspecifier), set(words) - {"ark", "scp"}, _RSPECIFIER_OPTIONS)
    return Rspecifier(rxfilename, "scp" in words, "p" in words)


def parse_wspecifier(wspecifier: str | Path) -> Wspecifier:
    """Parse ``ark:A``, ``ark,t:A``, ``ark,scp:A,B`` or a bare path, which is a binary archive.

    Raises:
        ValueError: ``scp:`` alone (it would need the archive's name), an unknown option, not two names.
    """
    if not is_specifier(wspecifier):
        return Wspecifier(str(wspecifier), None, False)
    words, names = _split(str(wspecifier))
    _check_options(str(wspecifier), set(words) - {"ark", "scp"}, _WSPECIFIER_OPTIONS)
    if "ark" not in words:
        raise ValueError(f"{wspecifier}: give the archive too, as in ark,scp:feats.ark,feats.scp")
    if "scp" not in words:
        return Wspecifier(names, None, "t" in words)
    archive, comma, script = names.partition(",")
    if not comma or not archive or not script or words.index("scp") < words.index("ark"):
        raise ValueError(f"{wspecifier}: expected two names, as in ark,scp:feats.ark,feats.scp")
    return Wspecifier(archive, script, "t" in words)


def is_specifier(name: str | Path) -> bool:
    """Return whether it is ``ark:...`` or ``scp:...``, with options; a ``Path`` never is."""
    return isinstance(name, str) and ":" in name and bool({"ark", "scp"} & set(_split(name)[0]))


def _split(specifier: str) -> tuple[list[str], str]:
    options, _, names = specifier.partition(":")
    return [word.strip(WHITESPACE) for word in options.split(",")], names.strip(WHITESPACE)


def _check_options(specifier: str, given: set[str], known: set[str]) -> None:
    unknown = sorted(given - known)
    if unknown:
        raise ValueError(f"{specifier}: option {unknown[0]!r} before the colon is not supported")
