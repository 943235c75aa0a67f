"""TextGrid files of Praat, in its long text format.

Source: Praat's manual, "TextGrid file formats".
"""

from collections.abc import Iterator, Mapping, Sequence

Interval = tuple[float, float, str]
"""Begin and end in seconds, and what is heard there."""


def textgrid(tiers: Mapping[str, Sequence[Interval]], duration: float) -> str:
    """Write tiers of intervals in order; time between them becomes intervals without a text."""
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {duration:.6f}",
    ]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers.items(), start=1):
        filled = list(_filled(intervals, duration))
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_quoted(name)}",
        ]
        lines += [
            "        xmin = 0",
            f"        xmax = {duration:.6f}",
            f"        intervals: size = {len(filled)}",
        ]
        for k, (begin, end, text) in enumerate(filled, start=1):
            lines += [f"        intervals [{k}]:", f"            xmin = {begin:.6f}"]
            lines += [f"            xmax = {end:.6f}", f"            text = {_quoted(text)}"]
    return "\n".join(lines) + "\n"


def _filled(intervals: Sequence[Interval], duration: float) -> Iterator[Interval]:
    reached = 0.0
    for begin, end, text in intervals:
        if begin > reached:
            yield reached, begin, ""
        yield begin, end, text
        reached = end
    if reached < duration:
        yield reached, duration, ""


def _quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'
