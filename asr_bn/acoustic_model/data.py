"""The data of a run: features and alignments of both sets, checked to belong together."""

import sys
from dataclasses import dataclass
from pathlib import Path

from asr_bn.acoustic_model.experiment import ExperimentConfig, TrainingConfig
from asr_bn.data.alignments import count_pdfs, num_pdfs, read_pdf_ids
from asr_bn.data.batches import Corpus, epoch_batches, sorted_batches
from asr_bn.data.kaldi_system import KaldiSystem, note_unknown_phones, read_aligned
from asr_bn.features.options import FbankOptions


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

    def to_dict(self) -> dict[str, object]:
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
            reason = f"no such file; 'asr-bn features {folder} OUT_DIR' makes features to train on"
            raise FileNotFoundError(2, reason, str(folder / name))
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
    skipped = corpus.skipped
    left_out = {
        "without alignment": skipped.without_alignment,
        "without frames": skipped.without_frames,
        "over max_frames": skipped.too_long,
    }
    text = f"{name} set: {len(corpus)} utterances, {int(corpus.num_frames.sum())} frames"
    return text + "".join(f"; {number} {why} left out" for why, number in left_out.items() if number)


def training_batches(corpus: Corpus, training: TrainingConfig, epoch: int) -> list[list[int]]:
    """Return the mini-batches of an epoch, as indices into ``corpus``, in the order of training."""
    return epoch_batches(corpus.num_frames, training.batch_size, training.seed, epoch, training.batch_frames)


def evaluation_batches(corpus: Corpus, training: TrainingConfig) -> list[list[int]]:
    """Return batches of utterances of like length, as indices into ``corpus``."""
    return sorted_batches(corpus.num_frames, training.batch_size, training.batch_frames)
