"""Alignments that are a frame or so longer or shorter than the features, made equal on request."""

from dataclasses import dataclass, field

from asr_bn.kaldi_io.matrix_table import MatrixScp
from asr_bn.system.arrays import IntVector

_SUBSAMPLING_FACTORS = (2, 3, 4)


@dataclass
class LengthMatcher:
    """Compares alignments with the features of a script file.

    Attributes:
        feats: the features.
        max_trim: how many frames may be cut from the end of the longer one; 0 refuses every difference.
        trimmed: utterances whose lengths differed.
        empty: utterances of which nothing is left, since one of the two has no frames.
        without_feats: utterances that have no features.
        script: lines of a script file for the features, a range on those that were too long.
    """

    feats: MatrixScp
    max_trim: int = 0
    trimmed: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    without_feats: list[str] = field(default_factory=list)
    script: list[str] = field(default_factory=list)

    def match(self, utt_id: str, pdf_ids: IntVector) -> IntVector | None:
        """Trim ``pdf_ids`` ``[num_frames]`` to the features; None if there are none, or nothing is left.

        Raises:
            ValueError: the lengths differ by more than ``max_trim``.
        """
        if utt_id not in self.feats:
            self.without_feats.append(utt_id)
            return None
        num_frames, num_aligned = self.feats.num_frames(utt_id), len(pdf_ids)
        if abs(num_frames - num_aligned) > self.max_trim:
            raise ValueError(_refusal(utt_id, num_frames, num_aligned, self.max_trim))
        common = min(num_frames, num_aligned)
        if not common:
            self.empty.append(utt_id)  # no range of Kaldi's holds no rows
            return None
        if num_frames != num_aligned:
            self.trimmed.append(utt_id)
        name = self.feats.rxfilename(utt_id)
        if num_frames > common and name.endswith("]"):
            raise ValueError(f"{utt_id}: {name}: has a range already and cannot be trimmed further")
        self.script.append(f"{utt_id} {name}" + (f"[0:{common - 1}]" if num_frames > common else ""))
        return pdf_ids[:common]


def _refusal(utt_id: str, num_frames: int, num_aligned: int, max_trim: int) -> str:
    sentence = f"{utt_id}: {num_frames} feature frames, {num_aligned} aligned pdf-ids"
    for factor in _SUBSAMPLING_FACTORS:
        if num_aligned > factor and abs(num_frames - factor * num_aligned) <= factor:
            return f"{sentence}: an alignment with frame subsampling by {factor}, which cannot be used"
    return f"{sentence}; --trim allows a difference of {max_trim} frames"
