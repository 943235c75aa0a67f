"""Symbol tables such as ``phones.txt``: a name and a number a line."""

from pathlib import Path

from asr_bn.kaldi_io.plain_text import parse_int, split_words
from asr_bn.kaldi_io.script_file import read_lines


def read_phone_names(path: Path) -> dict[int, str]:
    """Read names by number; blank lines are skipped, as OpenFst does.

    Raises:
        OSError: no such file.
        ValueError: a line is not a name and a number (file and line named), there is none, or a name has two
            numbers or a number two names.
    """
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for number, line in read_lines(path):
        fields = split_words(line)
        try:
            name, index = fields[0], parse_int(" ".join(fields[1:]))
            if index < 0:
                raise ValueError("a negative number")
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {line!r}, expected a name and a number") from error
        if names.setdefault(index, name) != name or numbers.setdefault(name, index) != index:
            raise ValueError(f"{path}:{number}: {line!r}, but the name or the number is another's already")
    if not names:
        raise ValueError(f"{path}: no names in it")
    return names
