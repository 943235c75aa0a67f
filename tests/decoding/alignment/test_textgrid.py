"""TextGrid files, written as Praat writes them; ``praatio`` 6.2 reads the same tiers back from this one."""

from asr_bn.decoding.alignment.textgrid import textgrid

# As Praat 6 saves two tiers of "a "quoted" word", but for the digits of its numbers.
EXPECTED = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.000000
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.000000
        intervals: size = 3
        intervals [1]:
            xmin = 0.000000
            xmax = 0.250000
            text = ""
        intervals [2]:
            xmin = 0.250000
            xmax = 0.500000
            text = "a ""quoted"" word"
        intervals [3]:
            xmin = 0.500000
            xmax = 1.000000
            text = ""
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 1.000000
        intervals: size = 1
        intervals [1]:
            xmin = 0.000000
            xmax = 1.000000
            text = "ä"
"""
TIERS = {"words": [(0.25, 0.5, 'a "quoted" word')], "phones": [(0.0, 1.0, "ä")]}


def test_the_long_format_is_praats() -> None:
    assert textgrid(TIERS, 1.0) == EXPECTED
