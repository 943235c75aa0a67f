"""What ``recipes/wsj/run.sh`` trains where no configuration is named, printed as shell assignments.

    python -m recipes.wsj.local.configuration FEATS_DIR DEVICE KALDI CONFIG FBANK_CONF

KALDI, CONFIG and FBANK_CONF are empty where they were not given.
"""

import sys
from pathlib import Path

from asr_bn.features.options import FbankOptions
from recipes.command_line import exit_status
from recipes.wsj.local.options import RECIPE, print_assignments

# A quarter of an hour.  With less an epoch of mini-batches of 24 utterances is too few steps, and the voices
# are too few to learn that they differ.
FEW_FRAMES = 90_000
FRAMES_A_MINUTE = 6000


def count_frames(feats_dir: Path) -> int:
    """Count the frames of a folder of features, which fill their archive but for the ids; 0 without one.

    Raises:
        ValueError: its ``fbank.conf`` is damaged.
    """
    archive, conf = feats_dir / "feats.ark", feats_dir / "fbank.conf"
    if not archive.is_file() or not conf.is_file():
        return 0
    return archive.stat().st_size // (4 * FbankOptions.read_conf(conf).num_features)


def choose(num_frames: int, device: str, kaldi: str, config: str, fbank_conf: str) -> dict[str, str]:
    """Return ``config`` and ``fbank_conf``, as given or chosen, and ``why``: what to tell about the choice.

    ``num_frames`` are those of the training set, 0 as long as they are not known.
    """
    conf, why = f"{RECIPE}/conf", ""
    if not config and not kaldi:
        config = f"{conf}/mini.toml"
    elif not config and 0 < num_frames < FEW_FRAMES:
        config = f"{conf}/small_corpus.toml"
        minutes = num_frames // FRAMES_A_MINUTE
        why = f"{minutes} minutes of training speech: training conf/small_corpus.toml (--config)"
    elif not config and device == "cuda":
        config = f"{conf}/paper.toml"
    elif not config:
        config = f"{conf}/small.toml"
        why = "no GPU: training conf/small.toml; the paper's network is conf/paper.toml (--config)"
    name = "fbank_subtract_mean.conf" if config.endswith("/small_corpus.toml") else "fbank.conf"
    return {"config": config, "fbank_conf": fbank_conf or f"{conf}/{name}", "why": why}


if __name__ == "__main__":
    feats, given = Path(sys.argv[1]), sys.argv[2:]
    sys.exit(exit_status("run.sh: error", lambda: print_assignments(choose(count_frames(feats), *given))))
