"""What the programs of the recipes have in common."""

import sys
from collections.abc import Callable

from asr_bn.cli.errors import describe


def exit_status(name: str, action: Callable[[], None]) -> int:
    """Do ``action`` and return 0; print its error in one line after ``name`` and return 1."""
    try:
        action()
    except (ValueError, OSError) as error:
        print(f"{name}: {describe(error)}", file=sys.stderr)
        return 1
    return 0
