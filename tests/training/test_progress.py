"""A run's progress as checkpoints hold it: by the names that every version of them has."""

from asr_bn.acoustic_model.evaluation import FrameSums
from asr_bn.acoustic_model.trainer import Progress as AcousticProgress
from asr_bn.language_model.evaluation import TokenSums
from asr_bn.language_model.trainer import Progress as LanguageProgress

HISTORY = [{"epoch": 1, "dev_fce": 2.0, "valid_nats": 1.5}]


def test_an_acoustic_models_progress_goes_round() -> None:
    saved = {
        "epoch": 2,
        "next_batch": 5,
        "sums": {"cross_entropy": 3.5, "errors": 1, "frames": 4},
        "history": HISTORY,
        "non_finite_steps": 1,
        "non_finite_utt_ids": ["a", "b"],
        "skipped_steps": 2,
        "steps": 12,
    }
    progress = AcousticProgress.from_dict(saved)
    assert progress.sums == FrameSums(3.5, 1, 4) and progress.best_epoch == 1
    assert progress.to_dict() == saved
    after = progress.after_epoch({"epoch": 2, "dev_fce": 1.0})
    assert (after.epoch, after.next_batch, after.sums, after.skipped_steps) == (3, 0, FrameSums(), 0)
    assert (after.steps, after.best_epoch) == (12, 2)


def test_a_language_models_progress_goes_round() -> None:
    sums = {"cross_entropy": 3.5, "tokens": 4}
    saved = {"epoch": 2, "next_window": 5, "sums": sums, "history": HISTORY, "non_finite_steps": 0}
    progress = LanguageProgress.from_dict(saved)
    assert (progress.next_batch, progress.sums, progress.best_epoch) == (5, TokenSums(3.5, 4), 1)
    assert progress.to_dict() == saved
