"""The corpus's GMM system and its alignments, in folders as Kaldi's ``steps/align_si.sh`` leaves them."""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from asr_bn.kaldi_io.data_dir import DataDir
from asr_bn.kaldi_io.plain_text import split_words
from asr_bn.kaldi_io.script_file import read_lines, read_table
from asr_bn.system.arrays import Floats
from asr_bn.system.files import atomic_path, write_bytes, write_json, write_text
from recipes.mini import BOUNDARY_ACCURACY
from recipes.mini.boundaries import boundary_errors, describe, read_oracle, summarize
from recipes.mini.data_dir import ORACLE, read_lexiconp, read_symbol_table
from recipes.mini.gmm import to_am_diag_gmm
from recipes.mini.graphs import Language
from recipes.mini.mfcc import features_of_file, normalize_speakers
from recipes.mini.segments import PhoneStarts
from recipes.mini.shard import Shards
from recipes.mini.train_mono import MonoOptions, MonoSystem, align, flat_start, shard_arguments, train_mono
from recipes.mini.write_mdl import encode_int_vector_table, encode_mdl

Alignments = Sequence[Mapping[str, NDArray[np.int32]]]
"""Transition-ids of each utterance, a mapping for each job."""


def train_and_align(data: Path, ali_dirs: Mapping[str, Path], num_gauss: int) -> None:
    """Train on the set ``train`` of the folder ``data`` and write the alignments of every set.

    Raises:
        ValueError: an utterance cannot be aligned.
    """
    local = data / "local"
    phone_ids, word_ids = (read_symbol_table(local / name) for name in ("phones.txt", "words.txt"))
    language = Language(read_lexiconp(local / "lexiconp.txt"), phone_ids, word_ids)
    feats = {name: _features(data / name) for name in ali_dirs}
    transcripts = {name: _transcripts(data / name) for name in ali_dirs}
    system = flat_start(language, feats["train"])
    for name, ali_dir in ali_dirs.items():
        with Shards(shard_arguments(system, language, transcripts[name], feats[name])) as shards:
            if name == "train":
                system = train_mono(shards, system, language.silence, MonoOptions(num_gauss=num_gauss))
            alignments, failed = align(shards, system)
        if failed:
            total = len(transcripts[name])
            raise ValueError(
                f"{failed[0]}: cannot be aligned ({len(failed)} of {total} utterances of {name})"
            )
        _write_ali_dir(ali_dir, system, alignments, data)
        _write_accuracy(ali_dir, data / name, system, alignments, language)


def _features(data: Path) -> dict[str, Floats]:
    utterances = DataDir.read(data).utterances
    mfcc = {
        utt_id: features_of_file(Path(utterance.rxfilename))
        for utt_id, utterance in tqdm(utterances.items(), desc=f"MFCC of {data.name}", unit="utterance")
    }
    utt2spk = {utt_id: utterance.speaker or utt_id for utt_id, utterance in utterances.items()}
    return normalize_speakers(mfcc, utt2spk)


def _transcripts(data: Path) -> dict[str, list[str]]:
    return {utt_id: split_words(words) for utt_id, words in read_table(data / "text").items()}


def _write_ali_dir(path: Path, system: MonoSystem, alignments: Alignments, data: Path) -> None:
    write_bytes(path / "final.mdl", encode_mdl(system.transition_model, to_am_diag_gmm(system.mixtures)))
    with atomic_path(path / "tree") as temporary:
        system.tree.write(True, str(temporary))
    write_text(path / "phones.txt", (data / "local" / "phones.txt").read_text(encoding="utf-8"))
    for job, shard in enumerate(alignments, start=1):
        write_bytes(path / f"ali.{job}.gz", gzip.compress(encode_int_vector_table(shard), mtime=0))
    write_text(path / "num_jobs", f"{len(alignments)}\n")


def _write_accuracy(
    path: Path, data: Path, system: MonoSystem, alignments: Alignments, language: Language
) -> None:
    phone_starts = PhoneStarts.of(system.transition_model)
    names = {index: phone for phone, index in language.phone_ids.items()}
    oracle = read_oracle(line for _, line in read_lines(data / ORACLE))
    accuracy = summarize(
        error
        for shard in alignments
        for utt_id, transition_ids in shard.items()
        for error in boundary_errors(oracle[utt_id], phone_starts.segments(transition_ids, names))
    )
    write_json(path / BOUNDARY_ACCURACY, accuracy)
    print(f"{data.name}: {describe(accuracy)}")
