"""Trimming: by hand, and the ranges are Kaldi's, so what is read back has the lengths that were promised."""

from pathlib import Path

import numpy as np
import pytest

from asr_bn.data.length_matching import LengthMatcher
from asr_bn.kaldi_io.matrix_table import MatrixScp, MatrixWriter

PDF_IDS = np.arange(10, dtype=np.int32)


@pytest.fixture
def scp(tmp_path: Path) -> MatrixScp:
    with MatrixWriter(f"ark,scp:{tmp_path}/f.ark,{tmp_path}/feats.scp") as writer:
        for utt_id, num_frames in (("equal", 10), ("longer", 11), ("shorter", 9), ("subsampled", 31)):
            writer.write(utt_id, np.arange(2 * num_frames, dtype=np.float32).reshape(num_frames, 2))
    return MatrixScp(tmp_path / "feats.scp")


def test_only_equal_lengths_without_the_option(scp: MatrixScp) -> None:
    matcher = LengthMatcher(scp)
    np.testing.assert_array_equal(matcher.match("equal", PDF_IDS), PDF_IDS)
    assert matcher.trimmed == []
    for utt_id, frames in (("longer", 11), ("shorter", 9)):
        with pytest.raises(
            ValueError, match=f"^{utt_id}: {frames} feature frames, 10 aligned pdf-ids; --trim"
        ):
            matcher.match(utt_id, PDF_IDS)


def test_the_longer_one_is_cut_and_counted(scp: MatrixScp, tmp_path: Path) -> None:
    matcher = LengthMatcher(scp, max_trim=1)
    matched = {utt_id: matcher.match(utt_id, PDF_IDS) for utt_id in ("equal", "longer", "shorter", "no such")}
    assert {utt_id: None if ids is None else ids.tolist() for utt_id, ids in matched.items()} == {
        "equal": list(range(10)),
        "longer": list(range(10)),
        "shorter": list(range(9)),
        "no such": None,
    }
    assert matcher.trimmed == ["longer", "shorter"]
    assert matcher.without_feats == ["no such"]
    (tmp_path / "trimmed.scp").write_text("\n".join(matcher.script) + "\n")
    trimmed = MatrixScp(tmp_path / "trimmed.scp")
    assert {utt_id: trimmed.num_frames(utt_id) for utt_id in trimmed} == {
        "equal": 10,
        "longer": 10,
        "shorter": 9,
    }
    np.testing.assert_array_equal(trimmed["longer"], scp["longer"][:10])


def test_frame_subsampling_is_named(scp: MatrixScp) -> None:
    with pytest.raises(ValueError, match="31 feature frames, 10 aligned pdf-ids: .*subsampling by 3"):
        LengthMatcher(scp, max_trim=1).match("subsampled", PDF_IDS)
