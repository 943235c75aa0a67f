"""How well an alignment finds the phone boundaries that the synthesizer reported."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from asr_bn.kaldi_io.plain_text import parse_float, split_words
from recipes.mini.lexicon import align_sequences
from recipes.mini.phones import SILENCE
from recipes.mini.synthesize import Phone

TOLERANCES_MS = (20, 50)


def boundary_errors(oracle: Sequence[Phone], aligned: Sequence[Phone]) -> list[float | None]:
    """Return signed errors in seconds (aligned minus oracle), one for each boundary of the oracle.

    The boundaries are the start of every phone that is not silence, and its end if silence follows.  The
    two phone sequences are first aligned to each other (minimum edit distance, silence left out); a
    boundary of a phone without a counterpart has no error: None.
    """
    spoken = [phone for phone in oracle if phone.phone != SILENCE]
    found = [phone for phone in aligned if phone.phone != SILENCE]
    errors: list[float | None] = []
    for index, other in align_sequences([p.phone for p in spoken], [p.phone for p in found]):
        if index is None:
            continue
        phone = spoken[index]
        errors.append(None if other is None else found[other].start - phone.start)
        if index + 1 == len(spoken) or spoken[index + 1].start - phone.end > 1e-6:
            errors.append(None if other is None else found[other].end - phone.end)
    return errors


def summarize(errors: Iterable[float | None]) -> dict[str, Any]:
    """Return counts and shares within each tolerance; a boundary that was not found counts as outside."""
    everything = list(errors)
    found = np.array([error for error in everything if error is not None])
    result: dict[str, Any] = {"num_boundaries": len(everything), "num_matched": int(found.size)}
    for tolerance in TOLERANCES_MS:
        within = int((np.abs(found) <= tolerance / 1000).sum())
        result[f"within_{tolerance}_ms"] = {"count": within, "share": within / max(1, len(everything))}
    if found.size:
        result["median_error_ms"] = round(float(np.median(found)) * 1000, 2)
        result["median_absolute_error_ms"] = round(float(np.median(np.abs(found))) * 1000, 2)
    return result


def read_oracle(lines: Iterable[str]) -> dict[str, list[Phone]]:
    """Read ``phones.ctm``: the phones of each utterance."""
    phones: dict[str, list[Phone]] = {}
    for line in lines:
        utt_id, _, start, duration, phone = split_words(line)
        phones.setdefault(utt_id, []).append(
            Phone(phone, parse_float(start), parse_float(start) + parse_float(duration))
        )
    return phones


def describe(accuracy: Mapping[str, Any]) -> str:
    """Return one line for people."""
    percent = {tolerance: 100 * accuracy[f"within_{tolerance}_ms"]["share"] for tolerance in TOLERANCES_MS}
    shares = ", ".join(f"{share:.1f} % within {tolerance} ms" for tolerance, share in percent.items())
    return f"{accuracy['num_boundaries']} phone boundaries: {shares} of the synthesizer's"
