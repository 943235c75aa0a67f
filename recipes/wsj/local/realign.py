"""A round of training anew from a network's own alignments, for ``recipes/wsj/run.sh --realign``.

    python -m recipes.wsj.local.realign RUN_DIR ROUND --feats DIR --ali DIR --config FILE --lang DIR ...

The batch-normalized network of ``RUN_DIR``, or of the round before, aligns both sets.  A new one with the
same configuration and seed learns from these.  The transition-ids are of the first alignments' ``final.mdl``,
which the networks hold, so that the pdfs and the decoding graph stay.  ``RUN_DIR/realign/ROUND`` gets:

    ali_train/, ali_dev/   alignment folders as Kaldi's
    train/feats.scp        training utterances but for those that could not be aligned or fit badly
    batch_norm/            the new network, and its words
    realign.json           what the round has brought
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_bn.data.alignments import read_pdf_ids
from asr_bn.kaldi_io.matrix_table import MatrixScp
from asr_bn.kaldi_io.plain_text import split_words
from asr_bn.kaldi_io.script_file import read_lines, read_table
from asr_bn.scoring.scorer import AcousticScorer
from asr_bn.system.files import read_json, write_bytes, write_json, write_text
from asr_bn.system.stamps import fingerprint, is_done, mark_done
from recipes.command_line import exit_status
from recipes.data_folder import table_text

SETS = ("train", "dev")


@dataclass(frozen=True)
class Round:
    """A round, and what it begins with.

    Attributes:
        run_dir: the folder of a seed's networks.
        number: of the round, from 1.
        seed: of the networks.
        feats, ali: folders with ``train`` and ``dev``: features; the alignments that the first networks
            learned from.
        config: the experiment.
        lang: pronunciations, as ``asr-bn align`` takes them.
        times: data folders of both sets; boundaries are compared with ``phones.ctm``, where one has it.
        graph: decoding graph; None decodes nothing.
        wer_filter: as for ``asr-bn decode``.
        device: ``cpu`` or ``cuda``.
        nj: calls of the model at a time.
    """

    run_dir: Path
    number: int
    seed: int
    feats: Path
    ali: Path
    config: Path
    lang: Path
    times: Sequence[Path]
    graph: Path | None
    wer_filter: Path | None
    device: str
    nj: int

    def folder(self, number: int) -> Path:
        """Return where a round is; 0 is the first training."""
        return self.run_dir / "realign" / str(number) if number else self.run_dir

    def network(self, number: int) -> Path:
        """Return the folder of the network that a round has trained."""
        return self.folder(number) / "batch_norm"

    def alignments(self, number: int, name: str) -> Path:
        """Return the alignments of a set that a round has trained on."""
        return self.folder(number) / f"ali_{name}" if number else self.ali / name

    def train_feats(self, number: int) -> Path:
        """Return the training features of a round."""
        return self.folder(number) / "train" if number else self.feats / "train"


def run_round(given: Round) -> None:
    """Align, train and compare; what is done and complete is skipped.

    Raises:
        ValueError: no training utterance is left.
        OSError: the round before has not been run.
        CalledProcessError: a verb has failed; it has said why.
    """
    before, after = given.network(given.number - 1), given.network(given.number)
    _complete(given, given.number - 1)
    for name, data_dir in zip(SETS, given.times, strict=True):
        out, known = given.alignments(given.number, name), data_dir / "phones.ctm"
        reference = ["--reference", known] if known.is_file() else []
        options = ["--nj", given.nj, "--device", given.device, *reference]
        _verb("align", before / "model.onnx", given.lang, given.feats / name, out, *options)
    leave_out(given.feats / "train", given.train_feats(given.number), given.alignments(given.number, "train"))
    options = ["--norm", "sequence", "--seed", given.seed, "--device", given.device, "--resume"]
    _verb("train", given.config, *_data(given, given.number), "--out", after, *options)
    _complete(given, given.number)
    _compare(given)


def _complete(given: Round, number: int) -> None:
    """Do for a trained network what the recipe's stages 5, 6 and 8 do."""
    network = given.network(number)
    _verb("finish", network, *_data(given, number), "--device", given.device)
    _verb("export", network, network / "model.onnx")
    if given.graph is not None:
        scoring = [] if given.wer_filter is None else ["--wer-filter", given.wer_filter]
        options = ["--mdl", given.ali / "dev/final.mdl", "--nj", given.nj, *scoring]
        dev, out = given.feats / "dev", network / "decode_dev"
        _verb("decode", network / "model.onnx", given.graph, dev, out, *options)


def _data(given: Round, number: int) -> list[object]:
    train, dev = (given.alignments(number, name) for name in SETS)
    feats = ["--data", given.train_feats(number), "--dev-data", given.feats / "dev"]
    return [*feats, "--ali", train, "--dev-ali", dev]


def _verb(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "asr_bn.cli", *map(str, words)], check=True)


def leave_out(feats: Path, out: Path, ali_dir: Path) -> None:
    """Write ``out/feats.scp`` without the utterances that ``ali_dir`` names as failed or as fitting badly.

    Raises:
        ValueError: none is left.
    """
    unfit = _named(ali_dir / "failed.txt") | _named(ali_dir / "poor.txt")
    script = read_table(feats / "feats.scp")
    kept = {utt_id: place for utt_id, place in script.items() if utt_id not in unfit}
    if not kept:
        raise ValueError(f"{ali_dir}: none of its {len(script)} utterances fits its text")
    write_bytes(out / "fbank.conf", (feats / "fbank.conf").read_bytes())
    write_text(out / "feats.scp", table_text(kept))
    print(
        f"{out}: {len(script) - len(kept)} of {len(script)} utterances left out of training", file=sys.stderr
    )


def _named(path: Path) -> set[str]:
    return {split_words(line)[0] for _, line in read_lines(path)}


def _compare(given: Round) -> None:
    """Write ``realign.json`` where it is not there, or the networks are others."""
    number, folder = given.number, given.folder(given.number)
    dev, networks = given.alignments(number, "dev"), [given.network(number - 1), given.network(number)]
    decoded = [path for network in networks if (path := network / "decode_dev/decode.json").is_file()]
    models = [network / name for network in networks for name in ("model.onnx", "final.json")]
    made_from = fingerprint({}, [*models, *decoded, dev / "ali.1.gz"])
    stamp, out = folder / ".realign.done", folder / "realign.json"
    if is_done(stamp, made_from, [out]):
        return
    old, new = (read_json(network / "final.json", dict) for network in networks)
    wer = [read_json(path, dict).get("wer") for path in decoded] if given.graph is not None else []
    known = dev / "boundaries.json"
    figures = {
        "round": number,
        "seed": given.seed,
        "failed": {name: len(_named(given.alignments(number, name) / "failed.txt")) for name in SETS},
        "poor": {name: len(_named(given.alignments(number, name) / "poor.txt")) for name in SETS},
        "changed_frames": share_of_changes(given.alignments(number - 1, "dev"), dev),
        "dev_fer_before_old_alignments": old["dev_fer"],
        "dev_fer_before": frame_error_rate(networks[0] / "model.onnx", given.feats / "dev", dev),
        "dev_fer_after": new["dev_fer"],
        "wer_before": wer[0] if len(wer) == len(networks) else None,
        "wer_after": wer[1] if len(wer) == len(networks) else None,
        "within_20_ms": read_json(known, dict)["within_20_ms"] if known.is_file() else None,
    }
    write_json(out, figures)
    mark_done(stamp, made_from)


def share_of_changes(old: Path, new: Path) -> float:
    """Return the share of frames, in utterances that both folders have, with another pdf-id."""
    before, after = read_pdf_ids(old), read_pdf_ids(new)
    pairs = [(before[utt_id], after[utt_id]) for utt_id in after if utt_id in before]
    return float(np.mean(np.concatenate([first != second for first, second in pairs])))


def frame_error_rate(model: Path, feats_dir: Path, ali_dir: Path) -> float:
    """Return the share of frames whose most probable pdf is not the aligned one."""
    scorer, feats = AcousticScorer.load(model, device="cpu"), MatrixScp(feats_dir / "feats.scp")
    wrong = [
        scorer(feats[utt_id]).argmax(axis=1) != pdf_ids for utt_id, pdf_ids in read_pdf_ids(ali_dir).items()
    ]
    return float(np.mean(np.concatenate(wrong)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run a round; return 1 after an error, or the status of the failed verb."""
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("number", type=int)
    for name in ("feats", "ali", "config", "lang"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--times", type=Path, nargs=2, required=True)
    for name in ("graph", "wer-filter"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--device", required=True)
    for name in ("seed", "nj"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = Round(**vars(parser.parse_args(arguments)))
    try:
        return exit_status("run.sh: error", lambda: run_round(given))
    except subprocess.CalledProcessError as error:
        return error.returncode


if __name__ == "__main__":
    sys.exit(main())
