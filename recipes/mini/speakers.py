"""The corpus's speakers: espeak-ng accents and voice variants at their own rates and pitches."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Speaker:
    """A speaker.

    Attributes:
        accent: an espeak-ng voice.
        variant: an espeak-ng voice variant (formants, harmonics, breath).
        rate: words a minute; the utterances vary around it.
        pitch: 0 to 100, relative to the variant's own pitch.
    """

    accent: str
    variant: str
    rate: int
    pitch: int

    @property
    def voice(self) -> str:
        """The name that espeak-ng knows the voice by."""
        return f"{self.accent}+{self.variant}"

    @property
    def speaker_id(self) -> str:
        """A name that sorts as Kaldi wants: every id has the same length, so none is another's prefix."""
        accent = {"en-us": "us", "en-us-nyc": "ny", "en": "gb", "en-gb-x-rp": "rp", "en-gb-x-gbcwmd": "wm"}
        return f"{accent[self.accent]}{self.variant.lower():x<7.7}"


TRAIN_SPEAKERS = (
    Speaker("en-us", "m1", 150, 50), Speaker("en-us", "f1", 155, 50), Speaker("en-us", "m3", 140, 35),
    Speaker("en-us", "f2", 165, 60), Speaker("en-us", "Andy", 145, 55), Speaker("en-us", "Annie", 150, 45),
    Speaker("en-us", "m6", 160, 45), Speaker("en-us", "linda", 140, 40), Speaker("en-us", "edward", 135, 60),
    Speaker("en-us", "Alex", 155, 65), Speaker("en-us", "f5", 145, 35), Speaker("en-us-nyc", "adam", 160, 45),
    Speaker("en-us-nyc", "belinda", 150, 50), Speaker("en-us-nyc", "Lee", 140, 65),
    Speaker("en", "m2", 150, 50), Speaker("en", "f3", 145, 45), Speaker("en", "john", 140, 45),
    Speaker("en", "Alicia", 155, 40), Speaker("en-gb-x-rp", "m4", 155, 55),
    Speaker("en-gb-x-rp", "zac", 135, 45), Speaker("en-gb-x-rp", "shelby", 150, 35),
    Speaker("en-gb-x-rp", "boris", 160, 60), Speaker("en-gb-x-gbcwmd", "Mario", 150, 45),
    Speaker("en-gb-x-gbcwmd", "grandma", 140, 55),
)  # fmt: skip

# Their variants speak nowhere in training.
DEV_SPEAKERS = (
    Speaker("en-us", "f4", 150, 50), Speaker("en-us", "m5", 155, 50), Speaker("en-us", "max", 140, 60),
    Speaker("en", "aunty", 145, 45), Speaker("en-gb-x-rp", "m7", 150, 50),
)  # fmt: skip
