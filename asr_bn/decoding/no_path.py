"""Why an utterance cannot be searched, which is nobody's fault but its own."""


class NoPath(ValueError):
    """No path leads through an utterance; says in a sentence why, and names no file and no option."""
