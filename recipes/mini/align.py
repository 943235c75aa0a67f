"""Align the corpus: ``python -m recipes.mini.align OUT``, after ``make_data OUT``.

A flat-start monophone GMM system is trained on ``OUT/data/train``; it aligns both sets into
``OUT/exp/mono_ali_train`` and ``OUT/exp/mono_ali_dev``, as Kaldi's ``steps/align_si.sh`` leaves them.
"""

import argparse
import gzip
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asr_bn.system.files import write_bytes, write_json, write_text
from asr_bn.system.stamps import is_done, mark_done
from recipes.command_line import exit_status
from recipes.mini.sources import made_from, require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from asr_bn.system.arrays import Floats
    from recipes.mini.shard import Language
    from recipes.mini.train_mono import MonoSystem

SETS = ("train", "dev")
BOUNDARY_ACCURACY = "boundary_accuracy.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and align; 1 after an error, told in one line."""
    parser = argparse.ArgumentParser(prog="python -m recipes.mini.align", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--num-gauss", type=int, default=1000, help="Gaussians in all (default: %(default)s)")
    options = parser.parse_args(arguments)
    return exit_status("align", lambda: align_corpus(options.out, options.num_gauss))


def align_corpus(out: Path, num_gauss: int = 1000) -> None:
    """Train and align, unless that is already done.

    Raises:
        OSError: ``make_data`` has not been run there.
        ValueError: ``kaldi-hmm-gmm`` is not installed, or an utterance cannot be aligned.
    """
    stamp = out / "exp" / ".mono_ali"
    key = made_from({"num_gauss": num_gauss}, [out / "data" / ".made"])
    outputs = [ali_dir(out, name) / BOUNDARY_ACCURACY for name in SETS]
    if not is_done(stamp, key, outputs):
        require("kaldi_hmm_gmm")
        stamp.unlink(missing_ok=True)
        _train_and_align(out, num_gauss)
        mark_done(stamp, key)


def ali_dir(out: Path, name: str) -> Path:
    """Where the alignments of a set are."""
    return out / "exp" / f"mono_ali_{name}"


def _train_and_align(out: Path, num_gauss: int) -> None:
    from recipes.mini.shard import Shards
    from recipes.mini.train_mono import MonoOptions, align, flat_start, shard_arguments, train_mono

    language = _read_language(out / "data" / "local")
    feats = {name: _features(out / "data" / name) for name in SETS}
    transcripts = {name: _transcripts(out / "data" / name) for name in SETS}
    system = flat_start(language, feats["train"])
    for name in SETS:
        with Shards(shard_arguments(system, language, transcripts[name], feats[name])) as shards:
            if name == "train":
                silence = language.phone_ids[language.silence_phone]
                system = train_mono(shards, system, silence, MonoOptions(num_gauss=num_gauss))
            alignments, failed = align(shards, system)
        if failed:
            total = len(transcripts[name])
            raise ValueError(
                f"{failed[0]}: cannot be aligned ({len(failed)} of {total} utterances of {name})"
            )
        _write_ali_dir(ali_dir(out, name), system, alignments, out / "data")
        _write_accuracy(ali_dir(out, name), out / "data" / name, system, alignments, language)


def _read_language(path: Path) -> "Language":
    from recipes.mini.data_dir import read_lexiconp, read_symbol_table
    from recipes.mini.phones import SILENCE
    from recipes.mini.shard import Language

    return Language(
        lexicon=read_lexiconp(path / "lexiconp.txt"),
        phone_ids=read_symbol_table(path / "phones.txt"),
        word_ids=read_symbol_table(path / "words.txt"),
        silence_phone=SILENCE,
    )


def _features(data: Path) -> "dict[str, Floats]":
    from tqdm import tqdm

    from asr_bn.kaldi_io.data_dir import DataDir
    from recipes.mini.mfcc import features_of_file, normalize_speakers

    utterances = DataDir.read(data).utterances
    mfcc = {
        utt_id: features_of_file(Path(utterance.rxfilename))
        for utt_id, utterance in tqdm(utterances.items(), desc=f"MFCC of {data.name}", unit="utterance")
    }
    utt2spk = {utt_id: utterance.speaker or utt_id for utt_id, utterance in utterances.items()}
    return normalize_speakers(mfcc, utt2spk)


def _transcripts(data: Path) -> dict[str, list[str]]:
    from asr_bn.kaldi_io.plain_text import split_words
    from asr_bn.kaldi_io.script_file import read_table

    return {utt_id: split_words(words) for utt_id, words in read_table(data / "text").items()}


def _write_ali_dir(
    path: Path, system: "MonoSystem", alignments: "Sequence[Mapping[str, NDArray[np.int32]]]", data: Path
) -> None:
    from asr_bn.system.files import atomic_path
    from recipes.mini.gmm import to_am_diag_gmm
    from recipes.mini.write_mdl import encode_int_vector_table, encode_mdl

    write_bytes(path / "final.mdl", encode_mdl(system.transition_model, to_am_diag_gmm(system.mixtures)))
    with atomic_path(path / "tree") as temporary:
        system.tree.write(True, str(temporary))
    write_text(path / "phones.txt", (data / "local" / "phones.txt").read_text(encoding="utf-8"))
    for job, shard in enumerate(alignments, start=1):
        write_bytes(path / f"ali.{job}.gz", gzip.compress(encode_int_vector_table(shard), mtime=0))
    write_text(path / "num_jobs", f"{len(alignments)}\n")


def _write_accuracy(
    path: Path,
    data: Path,
    system: "MonoSystem",
    alignments: "Sequence[Mapping[str, NDArray[np.int32]]]",
    language: "Language",
) -> None:
    from asr_bn.kaldi_io.script_file import read_lines
    from recipes.mini.boundaries import boundary_errors, describe, read_oracle, summarize
    from recipes.mini.data_dir import ORACLE
    from recipes.mini.segments import PhoneStarts

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


if __name__ == "__main__":
    sys.exit(main())
