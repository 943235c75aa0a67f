"""Running out of memory, in a sentence that says what to lower."""

from collections.abc import Iterator
from contextlib import contextmanager

MODEL = "the model: lower [model] hidden_size or num_layers"
_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


@contextmanager
def explain_out_of_memory(what: str) -> Iterator[None]:
    """Turn running out of memory inside the block, on a CPU or a GPU, into a ``ValueError``.

    Args:
        what: does not fit, and what to lower.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in _SIGNS):
            raise
        reason = str(error).strip().partition("\n")[0] or "no reason given"
        raise ValueError(f"out of memory on {what}; the reason given: {reason}") from error
