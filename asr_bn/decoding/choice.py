"""What is chosen on development data: weights of costs, a language model's share, the posteriors' scale."""

from dataclasses import dataclass, field
from pathlib import Path

from asr_bn.decoding.answers import AnswerMaker
from asr_bn.decoding.corpus import DecodedCorpus
from asr_bn.decoding.lattices.calibration import Calibration, choose_scale, right_words
from asr_bn.decoding.lattices.nbest_rescoring import NBestRescorer, RescoredList
from asr_bn.decoding.lattices.word_times import WordTimes
from asr_bn.decoding.references import TuningData, Words
from asr_bn.decoding.search_options import ScoreWeights
from asr_bn.decoding.tuning import Errors, best_weights, count_errors_of, describe_tuning, share
from asr_bn.decoding.word_errors import WordErrors
from asr_bn.kaldi_io.compact_lattice import CompactLattice

# Shares of a language model that are tried, and the one without development data.
LM_SCALES = (0.25, 0.5, 0.75, 1.0)
DEFAULT_LM_SCALE = 0.5


@dataclass(frozen=True)
class AnswerOptions:
    """What is wanted of lattices.

    Attributes:
        names: of words.
        acoustic_scale, word_penalty: None chooses those with the fewest word errors on development data.
        num_best: length of n-best lists.
        rescorer: a language model for n-best lists.
        lm_scale: its share; None chooses it.
        times: finds words in alignments; None writes no times.
    """

    names: dict[int, str]
    acoustic_scale: float | None = None
    word_penalty: float | None = None
    num_best: int = 10
    rescorer: NBestRescorer | None = None
    lm_scale: float | None = None
    times: WordTimes | None = None


@dataclass
class Choice:
    """What was chosen, and how.

    Attributes:
        weights: of costs.
        list_weights: of the n-best lists that a language model rescores.
        lm_scale: the language model's share; None without one.
        posterior_scale: of confidences.
        tuned_on: folder of the development data.
        tried, tried_lm: errors there, by weights and, the best of them, by the language model's share.
        calibration: of confidences there.
    """

    weights: ScoreWeights
    list_weights: ScoreWeights
    lm_scale: float | None = None
    posterior_scale: float = 1.0
    tuned_on: Path | None = None
    tried: Errors = field(default_factory=dict)
    tried_lm: dict[float, WordErrors] = field(default_factory=dict)
    calibration: Calibration | None = None

    @classmethod
    def given(cls, weights: ScoreWeights, options: AnswerOptions) -> "Choice":
        """Take what is given, without development data."""
        lm_scale = DEFAULT_LM_SCALE if options.lm_scale is None else options.lm_scale
        return cls(weights, weights, None if options.rescorer is None else lm_scale)

    @classmethod
    def made_on(cls, decoded: DecodedCorpus, tuning: TuningData, options: AnswerOptions) -> "Choice":
        """Choose weights, then the language model's share with weights, then the posteriors' scale."""
        errors: Errors = {}
        if len(decoded.weights) > 1:
            errors = count_errors_of(decoded.weights, tuning.references, decoded.words_with)
        weights = best_weights(errors) if errors else decoded.weights[0]
        choice = cls(weights, weights, tuned_on=tuning.folder, tried=errors)
        lattices = dict(decoded.lattices())
        if options.rescorer is not None:
            lists = {u: options.rescorer.rescore(each, weights) for u, each in lattices.items()}
            choice._choose_lm_scale(lists, decoded, tuning, options)
            lattices = {u: each.as_lattice(choice.lm_scale or 0.0) for u, each in lists.items()}
        choice._calibrate(lattices, tuning, options)
        return choice

    def _choose_lm_scale(
        self,
        lists: dict[str, RescoredList],
        decoded: DecodedCorpus,
        tuning: TuningData,
        options: AnswerOptions,
    ) -> None:
        found: dict[tuple[float, ScoreWeights], WordErrors] = {}
        for lm_scale in LM_SCALES if options.lm_scale is None else (options.lm_scale,):

            def words_with(weights: ScoreWeights, lm_scale: float = lm_scale) -> Words:
                best = {u: each.best(lm_scale, weights) for u, each in lists.items()}
                return {u: tuple(options.names[word] for word in words) for u, words in best.items()}

            errors = count_errors_of(decoded.weights, tuning.references, words_with)
            weights = best_weights(errors)
            found[lm_scale, weights] = self.tried_lm[lm_scale] = errors[weights]
        self.lm_scale, self.weights = min(found, key=lambda key: found[key].total)

    def _calibrate(
        self, lattices: dict[str, CompactLattice], tuning: TuningData, options: AnswerOptions
    ) -> None:
        def calibration_with(scale: float) -> Calibration:
            maker = AnswerMaker(options.names, self.weights, scale)
            confidences: list[float] = []
            is_right: list[bool] = []
            for utt_id, reference in tuning.references.words.items():
                if utt_id in lattices:
                    answer = maker.answer(utt_id, lattices[utt_id])
                    confidences += answer.confidences
                    is_right += right_words(reference, answer.words)
            return Calibration.of(confidences, is_right)

        self.posterior_scale = choose_scale(calibration_with)
        self.calibration = calibration_with(self.posterior_scale)

    def describe(self) -> dict[str, object]:
        """Sum up, for ``decode.json``."""
        found: dict[str, object] = {
            "acoustic_scale": self.weights.acoustic_scale,
            "word_penalty": self.weights.word_penalty,
            "tuned_on": None if self.tuned_on is None else str(self.tuned_on),
            "posterior_scale": self.posterior_scale,
        }
        found |= describe_tuning(self.tried)
        if self.lm_scale is not None:
            found["lm_scale"] = self.lm_scale
            found["wer_by_lm_scale"] = {f"{key:g}": share(value) for key, value in self.tried_lm.items()}
        if self.calibration is not None and len(self.calibration.is_right):
            found["confidence"] = self.calibration.describe()
        return found
