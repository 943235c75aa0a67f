"""The corpus's monophone GMM system, its alignments, and how near they are to the synthesizer's times."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from asr_bn.audio.source import AudioSource
from asr_bn.decoding.alignment.lexicon import Pronunciations
from asr_bn.decoding.hmms import Hmms
from asr_bn.gmm.corpus import GmmCorpus
from asr_bn.gmm.phone_sets import PhoneSets
from asr_bn.gmm.stages import GmmTraining, alignments_of
from asr_bn.gmm.system import GmmOptions
from asr_bn.gmm.transitions import TransitionIds
from asr_bn.kaldi_io.phone_table import read_phone_names
from asr_bn.kaldi_io.script_file import read_lines
from asr_bn.system.arrays import IntVector
from asr_bn.system.files import write_json
from recipes.mini import BOUNDARY_ACCURACY
from recipes.mini.boundaries import boundary_errors, describe, read_oracle, summarize
from recipes.mini.data_dir import ORACLE
from recipes.mini.synthesize import Phone

FRAME_SHIFT, FRAME_LENGTH = 0.010, 0.025  # seconds, those of the MFCC
# Practically none: an utterance that the pruning loses is lost to the network's training too.
RETRY_BEAM = 1000.0


def train_and_align(data: Path, ali_dirs: Mapping[str, Path], num_gauss: int) -> None:
    """Train on the set ``train`` of the folder ``data`` and write the alignments of every set.

    Raises:
        ValueError: an utterance cannot be aligned.
    """
    local = data / "local"
    lexicon, sets = Pronunciations.read(local), PhoneSets.read(local)
    corpora = {name: GmmCorpus.read(data / name, lexicon, AudioSource()) for name in ali_dirs}
    training = GmmTraining(lexicon, sets, sets.phones_txt(local), corpora["train"])
    options = replace(GmmOptions.scaled("mono", 0, 0, num_gauss=num_gauss), retry_beam=RETRY_BEAM)
    others = {ali_dirs[name]: corpora[name] for name in ali_dirs if name != "train"}
    training.run("mono", options, None, ali_dirs["train"], others)
    for name, ali_dir in ali_dirs.items():
        failed = [line for _, line in read_lines(ali_dir / "failed.txt")]
        if failed:
            raise ValueError(f"{failed[0]} ({len(failed)} utterances of {name})")
        _write_accuracy(ali_dir, data / name)


def _write_accuracy(path: Path, data: Path) -> None:
    tids, names = TransitionIds.of(Hmms.read(path / "final.mdl")), read_phone_names(path / "phones.txt")
    oracle = read_oracle(line for _, line in read_lines(data / ORACLE))
    accuracy = summarize(
        error
        for utt_id, transition_ids in alignments_of(path).items()
        for error in boundary_errors(oracle[utt_id], _phones(tids, transition_ids, names))
    )
    write_json(path / BOUNDARY_ACCURACY, accuracy)
    print(f"{data.name}: {describe(accuracy)}")


def _phones(tids: TransitionIds, transition_ids: IntVector, names: Mapping[int, str]) -> list[Phone]:
    """Return the phones of one utterance with their times in seconds.

    A boundary is midway between the centres of the windows beside it.
    """
    phones, starts = tids.split(transition_ids)
    times = [k * FRAME_SHIFT + (FRAME_LENGTH - FRAME_SHIFT) / 2 for k in (*starts, len(transition_ids))]
    return [
        Phone(names[phone], start, end)
        for phone, start, end in zip(phones.tolist(), times, times[1:], strict=False)
    ]
