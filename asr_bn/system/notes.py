"""Notes: what a user may not expect, and what goes on all the same."""

import sys


def print_note(text: str) -> None:
    """Print a note on standard error."""
    print(f"note: {text}", file=sys.stderr)
