"""Write LICENCES.md, the licences of all packages that pyproject.toml names.

    python scripts/licences.py

Licences are read from the packages that are installed.  Lines of others, and of those whose metadata name
none, are kept as they are: write them by hand, from the package's licence file.
"""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LISTED = ROOT / "LICENCES.md"
HEAD = """# Licences of dependencies

asr-bn itself is under the Apache License 2.0 (LICENSE). These are its direct dependencies, with the extras
that ask for them; `python scripts/licences.py` writes this list. The SBOM of a release lists all.

| package | needed by | licence |
|---|---|---|
"""


def requirements() -> dict[str, str]:
    """List all packages by name, each with what needs it: ``asr-bn`` or extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"asr-bn": project["dependencies"], **project["optional-dependencies"]}
    needed: dict[str, list[str]] = {}
    for group, lines in groups.items():
        for line in lines:
            needed.setdefault(Requirement(line).name, []).append(group)
    return {name: ", ".join(dict.fromkeys(needed[name])) for name in sorted(needed)}


def licence(name: str) -> str | None:
    """Read an installed package's licence, an SPDX expression if it gives one; None if it gives nothing."""
    try:
        fields = metadata(name)
    except PackageNotFoundError:
        return None
    if expression := fields.get("License-Expression"):
        return expression
    classifiers = [
        text.split(" :: ")[-1] for text in fields.get_all("Classifier", []) if "License ::" in text
    ]
    stated = (fields.get("License") or "").strip()
    return ", ".join(classifiers) or stated.partition("\n")[0] or None


def listed() -> dict[str, str]:
    """Read licences by package from LICENCES.md."""
    rows = re.findall(r"^\| ([\w.-]+) \| [^|]+ \| (.+) \|$", LISTED.read_text(), re.MULTILINE)
    return dict(rows[1:])


def main() -> None:
    """Write the list anew."""
    known = listed()
    rows = [
        f"| {name} | {needed_by} | {licence(name) or known[name]} |\n"
        for name, needed_by in requirements().items()
    ]
    LISTED.write_text(HEAD + "".join(rows))


if __name__ == "__main__":
    main()
