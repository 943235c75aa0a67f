"""Fuzz a target with Atheris: ``python -m fuzz.run TARGET --seconds 600``; needs the extra ``fuzz``."""

import argparse
import sys
from pathlib import Path

import atheris

from fuzz.targets import CORPUS, all_targets

_INSTRUMENTED = ["asr_bn", "serve", "python_multipart"]


def main() -> None:
    """Fuzz until the time is over, or until an input makes the target raise."""
    with atheris.instrument_imports(include=_INSTRUMENTED):
        targets = all_targets()
    arguments = _arguments(list(targets))
    found: Path = arguments.found / arguments.target
    found.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={arguments.seconds}",
        f"-max_len={arguments.max_len}",
        "-timeout=10",
        "-rss_limit_mb=4096",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
    ]
    # New inputs are written to the first folder; both are read.
    folders = [str(found), str(CORPUS / arguments.target)]
    atheris.Setup([sys.argv[0], *options, *folders], targets[arguments.target])
    atheris.Fuzz()


def _arguments(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description=main.__doc__)
    parser.add_argument("target", choices=names)
    parser.add_argument("--seconds", type=int, default=600, help="how long (default: %(default)s)")
    parser.add_argument("--max-len", type=int, default=1 << 16, help="bytes of an input at most")
    parser.add_argument(
        "--found", type=Path, default=Path("exp/fuzz"), help="folder for new inputs and crashes"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
