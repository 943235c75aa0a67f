"""A GMM system and the options of its training."""

from dataclasses import dataclass
from pathlib import Path

from asr_bn.gmm.mixtures import Mixture, to_am_diag_gmm
from asr_bn.gmm.write_mdl import TransitionModelData, encode_mdl
from asr_bn.kaldi_io.context_dependency import ContextDependency
from asr_bn.kaldi_io.matrix import encode_matrix
from asr_bn.system.arrays import Floats
from asr_bn.system.files import write_bytes, write_text

STAGES = ("mono", "tri1", "lda-mllt")
BEAM, RETRY_BEAM = 10.0, 40.0
SPLICE = 4  # frames on either side, before LDA
# By stage: of train_mono.sh, train_deltas.sh, train_lda_mllt.sh.
_ITERATIONS = {"mono": (40, 30), "tri1": (35, 25), "lda-mllt": (35, 25)}
# Kaldi's recipes have 2000 leaves and 10,000 Gaussians for five hours: so many frames each.
_FRAMES_A_LEAF, _FRAMES_A_GAUSSIAN = 900, 180
_LEAVES_A_ROOT = 4  # at least, where there is little speech: the states of a phone share its root
_MOST_LEAVES, _MOST_GAUSSIANS = 2500, {"mono": 1000, "tri1": 10_000, "lda-mllt": 15_000}


@dataclass(frozen=True)
class GmmOptions:
    """Sizes of a stage's system, and how it is trained.

    Attributes:
        num_leaves: at most, of the decision tree (not of monophones).
        num_gauss: Gaussians in all (Kaldi's ``totgauss``).
        num_iters: iterations.
        max_iter_inc: the last one that adds Gaussians.
        beam, retry_beam: of the last alignment; a retry follows where the first fails.
        boost_silence: factor for silence while training.
        seed: of splitting Gaussians.
        num_jobs: processes; sums, and so the last bits, depend on it.
    """

    num_leaves: int
    num_gauss: int
    num_iters: int = 40
    max_iter_inc: int = 30
    beam: float = BEAM
    retry_beam: float = RETRY_BEAM
    boost_silence: float = 1.25
    seed: int = 0
    num_jobs: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.beam <= self.retry_beam:
            raise ValueError(
                f"beam {self.beam:g}, retry beam {self.retry_beam:g}: expected 0 < beam <= retry beam"
            )

    @classmethod
    def scaled(
        cls,
        stage: str,
        num_frames: int,
        num_roots: int,
        num_leaves: int | None = None,
        num_gauss: int | None = None,
        num_iters: int | None = None,
    ) -> "GmmOptions":
        """Take Kaldi's sizes for what is None, in proportion where there is little speech."""
        iters, last = _ITERATIONS[stage]
        if num_iters is not None:
            iters, last = num_iters, min(last, max(1, num_iters * 3 // 4))
        gaussians = num_gauss or min(_MOST_GAUSSIANS[stage], num_frames // _FRAMES_A_GAUSSIAN)
        leaves = max(_LEAVES_A_ROOT * num_roots, num_frames // _FRAMES_A_LEAF)
        return cls(num_leaves or min(_MOST_LEAVES, leaves), gaussians, iters, last)


@dataclass(frozen=True)
class GmmSystem:
    """A decision tree, a transition model and Gaussian mixtures.

    Attributes:
        mixtures: one for each pdf.
        matrix: LDA and MLLT, ``[dim, (2 * SPLICE + 1) * 13]``; None for deltas.
    """

    tree: ContextDependency
    transitions: TransitionModelData
    mixtures: list[Mixture]
    matrix: Floats | None = None

    @property
    def num_gauss(self) -> int:
        """Gaussians of all pdfs."""
        return sum(mixture.weights.size for mixture in self.mixtures)

    def write(self, folder: Path) -> None:
        """Write ``final.mdl`` and ``tree`` as Kaldi does, and ``final.mat`` and ``splice_opts`` for LDA."""
        write_bytes(folder / "final.mdl", encode_mdl(self.transitions, to_am_diag_gmm(self.mixtures)))
        write_bytes(folder / "tree", self.tree.encode())
        if self.matrix is None:  # of an earlier run: Kaldi's scripts go by it
            (folder / "final.mat").unlink(missing_ok=True)
        else:
            write_bytes(folder / "final.mat", encode_matrix(self.matrix))
            write_text(folder / "splice_opts", f"--left-context={SPLICE} --right-context={SPLICE}\n")
