"""A model or a mini-batch that does not fit becomes a sentence that says what to lower."""

from collections.abc import Iterator
from contextlib import contextmanager

from asr_bn.data.batches import Batch

_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


@contextmanager
def naming_batch(batch: Batch) -> Iterator[None]:
    """Turn running out of memory inside, on a CPU or a GPU, into a ``ValueError``."""
    # A rank may have no utterance of a mini-batch.
    utterances, frames = len(batch.utt_ids), int(batch.lengths.max()) if len(batch.utt_ids) else 0
    what = (
        f"a mini-batch of {utterances} utterances padded to {frames} frames "
        f"({utterances * frames} in all): lower [training] batch_size (or set batch_frames) or "
        "max_frames, or share the mini-batch among more processes (torchrun)"
    )
    with _naming(what):
        yield


@contextmanager
def naming_model() -> Iterator[None]:
    """As :func:`naming_batch`, around the making of a model."""
    with _naming("the model: lower [model] hidden_size or num_layers"):
        yield


@contextmanager
def _naming(what: str) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in _SIGNS):
            raise
        reason = str(error).strip().partition("\n")[0] or "no reason given"
        raise ValueError(f"out of memory on {what}; the reason given: {reason}") from error
