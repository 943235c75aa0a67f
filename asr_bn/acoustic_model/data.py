"""The data of a run: features and alignments of both sets, checked to belong together."""

import sys
from dataclasses import dataclass
from pathlib import Path

from asr_bn.acoustic_model.experiment import ExperimentConfig
from asr_bn.data.alignments import count_pdfs, num_pdfs, read_pdf_ids
from asr_bn.data.batches import Corpus
from asr_bn.data.kaldi_system import KaldiSystem, note_unknown_phones, read_aligned
from asr_bn.features.options import FbankOptions
from asr_bn.training.checkpoint import Values


@dataclass(frozen=True)
class DataFolders:
    """Features (``feats.scp``, ``fbank.conf``) and alignments of the training and development sets."""

    train: Path
    train_ali: Path
    dev: Path
    dev_ali: Path


@dataclass(frozen=True)
class DataDescription:
    """What checkpoints hold of a run's data.

    Attributes:
        fbank: how the features were made.
        num_pdfs: of the alignments' model.
        pdf_counts: frames of each pdf in the training set.
        train_corpus, dev_corpus: fingerprints of the utterances' names, lengths and pdf-ids.
    """

    fbank: FbankOptions
    num_pdfs: int
    pdf_counts: list[int]
    train_corpus: str
    dev_corpus: str

    def to_dict(self) -> Values:
        """Return plain values."""
        return vars(self) | {"fbank": self.fbank.to_dict()}


@dataclass(frozen=True)
class RunData:
    """The training and development sets.

    Attributes:
        system: that the training alignments are of; None where they are pdf-ids alone.
    """

    train: Corpus
    dev: Corpus
    description: DataDescription
    system: KaldiSystem | None = None


def load_data(folders: DataFolders, config: ExperimentConfig, quiet: bool = False) -> RunData:
    """Read the folders of a run; utterances over ``max_frames`` leave the training set only.

    Both sets are described on standard error unless ``quiet``.

    Raises:
        ValueError: training and development sets do not belong together, or lengths differ.
    """
    fbank = _same_fbank(folders)
    classes = _same_num_pdfs(folders)
    train_pdf_ids, system = read_aligned(folders.train_ali)
    train = Corpus.load(folders.train, train_pdf_ids, config.training.max_frames, fbank.num_features)
    dev = Corpus.load(folders.dev, read_pdf_ids(folders.dev_ali), None, fbank.num_features)
    for name, corpus in (("training", train), ("development", dev)):
        if not quiet:
            print(_what_is_there(name, corpus), file=sys.stderr)
    if system is None and not quiet:
        note_unknown_phones(folders.train_ali)
    counts = count_pdfs((train_pdf_ids[utt_id] for utt_id in train.utt_ids), classes)
    description = DataDescription(fbank, classes, counts.tolist(), train.fingerprint(), dev.fingerprint())
    return RunData(train, dev, description, system)


def _same_fbank(folders: DataFolders) -> FbankOptions:
    train, dev = _fbank_of(folders.train), _fbank_of(folders.dev)
    if train != dev:
        raise ValueError(f"{folders.dev}/fbank.conf: has other options than {folders.train}/fbank.conf")
    return train


def _fbank_of(folder: Path) -> FbankOptions:
    for name in ("feats.scp", "fbank.conf"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                2,
                f"no such file; 'asr-bn features {folder} OUT_DIR' makes features to train on",
                str(folder / name),
            )
    return FbankOptions.read_conf(folder / "fbank.conf")


def _same_num_pdfs(folders: DataFolders) -> int:
    train, dev = num_pdfs(folders.train_ali), num_pdfs(folders.dev_ali)
    if train != dev:
        raise ValueError(
            f"{folders.dev_ali}: its model has {dev} pdfs, that of {folders.train_ali} has {train}; "
            "both alignments must be of one model"
        )
    return train


def _what_is_there(name: str, corpus: Corpus) -> str:
    text = f"{name} set: {len(corpus)} utterances, {int(corpus.num_frames.sum())} frames"
    skipped = corpus.skipped
    if skipped.without_alignment:
        text += f"; {skipped.without_alignment} without alignment left out"
    if skipped.without_frames:
        text += f"; {skipped.without_frames} without frames left out"
    if skipped.too_long:
        text += f"; {skipped.too_long} over max_frames left out"
    return text
