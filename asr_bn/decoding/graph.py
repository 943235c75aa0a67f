"""A decoding graph: ``HCLG.fst``, ``words.txt``, and the transition model its labels belong to."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_bn.data.alignments import model_in
from asr_bn.decoding.fst_file import Fst, FstArrays, kaldifst
from asr_bn.kaldi_io.phone_table import read_phone_names
from asr_bn.kaldi_io.script_file import read_count
from asr_bn.kaldi_io.transition_model import TransitionModel
from asr_bn.system.arrays import Floats

GRAPH_FILES = ("HCLG.fst", "HCLG.fst.gz", "words.txt", "num_pdfs")


@dataclass(frozen=True)
class DecodingGraph:
    """A graph whose input labels are transition-ids and whose output labels are words.

    Attributes:
        arrays: the transducer.
        words: names by number.
        model: maps the input labels to pdfs.
    """

    arrays: FstArrays
    words: dict[int, str]
    model: TransitionModel

    @classmethod
    def load(cls, graph_dir: Path, mdl: Path | None = None) -> "DecodingGraph":
        """Read a graph folder, as Kaldi's ``mkgraph.sh`` and ``asr-bn make-graph`` leave it.

        ``mdl`` is found by :func:`find_transition_model` where it is not given.

        Raises:
            OSError: ``HCLG.fst`` or ``words.txt`` is missing.
            ValueError: one of them is damaged, or the graph was made with another transition model.
        """
        plain, packed = (graph_dir / name for name in GRAPH_FILES[:2])
        arrays = FstArrays.read(packed if packed.exists() and not plain.exists() else plain)
        words = read_phone_names(graph_dir / "words.txt")
        model_path = mdl or find_transition_model(graph_dir)
        model = TransitionModel.read(model_path)
        _check_labels(arrays, words, model, graph_dir, model_path)
        return cls(arrays, words, model)

    def checked(self, block: Floats) -> Floats:
        """Return log likelihoods as they are.

        Raises:
            ValueError: columns that are not the transition model's pdfs, or a value that is not finite.
        """
        if block.ndim != 2 or block.shape[1] != self.model.num_pdfs:
            raise ValueError(
                f"scores have shape {list(block.shape)}, expected [num_frames, {self.model.num_pdfs}] "
                "for the graph's transition model"
            )
        if not np.isfinite(block).all():
            raise ValueError("scores hold a value that is not finite")
        return block


def to_kaldifst(arrays: FstArrays) -> Fst:
    """Convert to a ``kaldifst.StdVectorFst``, which cannot read const FSTs itself."""
    with tempfile.NamedTemporaryFile(suffix=".fst") as stream:
        stream.write(arrays.vector_bytes())
        stream.flush()
        return kaldifst.StdVectorFst.read(stream.name)


def to_arrays(fst: Fst) -> FstArrays:
    """Convert a ``kaldifst.StdVectorFst``."""
    with tempfile.NamedTemporaryFile(suffix=".fst") as stream:
        fst.write(stream.name)
        return FstArrays.read(Path(stream.name))


def find_transition_model(graph_dir: Path) -> Path:
    """Find a graph folder's ``final.mdl``: inside it, beside it, or in alignments made with its system.

    Kaldi's ``exp/tri4b/graph`` belongs to ``exp/tri4b/final.mdl``, of which ``exp/tri4b_ali*`` hold copies.

    Raises:
        ValueError: there is none, or the alignment folders' are not the same.
    """
    system = graph_dir.resolve().parent
    if own := model_in(graph_dir) or model_in(system):
        return own
    copies = [
        model for path in sorted(system.parent.glob(f"{system.name}_ali*")) if (model := model_in(path))
    ]
    if not copies:
        raise ValueError(f"{graph_dir}: no final.mdl in or beside it; name it with --mdl")
    first, *others = (TransitionModel.read(path) for path in copies)
    for path, other in zip(copies[1:], others, strict=True):
        if not np.array_equal(first.tid_to_pdf, other.tid_to_pdf):
            raise ValueError(f"{graph_dir}: {copies[0]} and {path} differ; name the graph's with --mdl")
    return copies[0]


def _check_labels(
    arrays: FstArrays, words: dict[int, str], model: TransitionModel, graph_dir: Path, model_path: Path
) -> None:
    largest = int(arrays.arcs["ilabel"].max(initial=0))
    if largest > model.num_transition_ids:
        raise ValueError(
            f"{graph_dir}/HCLG.fst: has transition-id {largest}, but {model_path} has 1 to "
            f"{model.num_transition_ids}: a graph of another model"
        )
    path = graph_dir / "num_pdfs"
    num_pdfs = read_count(path, "the number of pdfs") if path.exists() else model.num_pdfs
    if num_pdfs != model.num_pdfs:
        raise ValueError(
            f"{path}: says {num_pdfs}, but {model_path} has {model.num_pdfs} pdfs: a graph of another model"
        )
    unknown = set(np.unique(arrays.arcs["olabel"]).tolist()) - set(words)
    if unknown - {0}:
        raise ValueError(f"{graph_dir}/words.txt: has no word {min(unknown - {0})}, which HCLG.fst uses")
