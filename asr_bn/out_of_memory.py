"""A mini-batch that does not fit becomes a sentence that says what to lower."""

from collections.abc import Iterator
from contextlib import contextmanager

from asr_bn.batches import Batch

_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


@contextmanager
def naming_batch(batch: Batch) -> Iterator[None]:
    """Turn running out of memory inside, on a CPU or a GPU, into a ``ValueError``."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in _SIGNS):
            raise
        utterances, frames = len(batch.utt_ids), int(batch.lengths.max())
        reason = str(error).strip().partition("\n")[0] or "no reason given"
        raise ValueError(
            f"out of memory on a mini-batch of {utterances} utterances padded to {frames} frames "
            f"({utterances * frames} in all): lower [training] batch_size (or set batch_frames) or "
            f"max_frames, or share the mini-batch among more processes (torchrun); the reason given: {reason}"
        ) from error
