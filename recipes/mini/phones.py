"""The corpus's phones, and how espeak-ng's phoneme mnemonics map to them."""

SILENCE = "SIL"

# espeak-ng's mnemonics (docs/phonemes.md there) without stress marks.
_CONSONANTS = {
    "p": "P", "b": "B", "t": "T", "t2": "T", "d": "D", "k": "K", "g": "G", "tS": "CH", "dZ": "JH",
    "f": "F", "v": "V", "T": "TH", "D": "DH", "s": "S", "z": "Z", "S": "SH", "Z": "ZH", "h": "HH",
    "m": "M", "n": "N", "N": "NG", "l": "L", "r": "R", "r-": "R", "j": "Y", ";": "Y", "w": "W", "t#": "DX",
}  # fmt: skip
_VOWELS = {
    "i:": "IY", "i": "IY", "I": "IH", "I2": "IH", "I#": "IH", "E": "EH", "a": "AE", "V": "AH",
    "U": "UH", "u:": "UW", "A:": "AA", "O:": "AO", "3:": "ER", "eI": "EY", "aI": "AY",
    "OI": "OY", "oU": "OW", "aU": "AW", "@": "AX", "@2": "AX", "@5": "AX", "@-": "AX", "a#": "AX", "@L": "EL",
    "i@": "IA", "i@3": "IA", "e@": "EA", "U@": "UH", "aI@": "AY", "aI3": "AY",
}  # fmt: skip
# What the accents say differently under one mnemonic: bath, lot, thought, letter, start, north.
_AMERICAN = {"aa": "AE", "0": "AA", "O2": "AO", "3": "ER", "A@": "AR", "O@": "OR", "o@": "OR"}
_BRITISH = {"aa": "AA", "0": "OH", "O2": "OH", "3": "AX", "A@": "AA", "O@": "AO", "o@": "AO"}
_STRESS_MARKS = "',%="


def phone_of(mnemonic: str, accent: str) -> str:
    """Return the phone of an espeak-ng phoneme; ``SIL`` for its pauses.

    Args:
        mnemonic: as in espeak-ng's phoneme events, stress mark included.
        accent: the espeak-ng voice, such as ``en-us`` or ``en-gb-x-rp``.

    Raises:
        ValueError: the phoneme is not one of the accents that the corpus uses.
    """
    name = mnemonic.strip(_STRESS_MARKS)
    if not name or name.startswith("_"):
        return SILENCE
    own = _AMERICAN if accent.startswith("en-us") else _BRITISH
    phone = own.get(name) or _VOWELS.get(name) or _CONSONANTS.get(name)
    if phone is None:
        raise ValueError(f"espeak-ng phoneme {mnemonic!r} of {accent} has no phone in recipes/mini/phones.py")
    return phone


def all_phones() -> list[str]:
    """Return every phone: silence first, the others sorted."""
    tables = (_CONSONANTS, _VOWELS, _AMERICAN, _BRITISH)
    return [SILENCE, *sorted({phone for table in tables for phone in table.values()})]
