"""Symbol tables such as ``phones.txt``: a name and a number a line."""

from pathlib import Path


def read_phone_names(path: Path) -> dict[int, str]:
    """Names by number.

    Raises:
        ValueError: a line is not a name and a number (file and line named).
    """
    names = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split()
        if len(fields) != 2 or not fields[1].isdigit():
            raise ValueError(f"{path}:{number}: {line!r}, expected a name and a number")
        names[int(fields[1])] = fields[0]
    return names
