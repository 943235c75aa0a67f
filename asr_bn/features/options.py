"""Kaldi's options of ``compute-fbank-feats``, and its conf files."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from asr_bn.kaldi_io.plain_text import WHITESPACE, parse_float, parse_int
from asr_bn.kaldi_io.script_file import read_lines
from asr_bn.kaldi_io.utterance_id import prefix_errors
from asr_bn.system.files import write_text

OptionValue: TypeAlias = bool | int | float | str
WINDOW_TYPES = ("hamming", "hanning", "povey", "rectangular", "sine", "blackman")
_KALDI_NAMES = {"frame_length_ms": "frame-length", "frame_shift_ms": "frame-shift"}
# Options of Kaldi's program that change no feature, or that are set here by other means.
# The value is the only one accepted, None accepts any.
_IGNORED: dict[str, tuple[type, object]] = {
    "debug": (bool, False),
    "debug-mel": (bool, False),
    "verbose": (int, None),
    "print-args": (bool, None),
    "output-format": (str, "kaldi"),
    "channel": (int, None),  # see `read_channel`
    "min-duration": (float, 0.0),
    "max-feature-vectors": (int, -1),
    "allow-downsample": (bool, False),
    "allow-upsample": (bool, False),
    "vtln-low": (float, None),
    "vtln-high": (float, None),
    "vtln-warp": (float, 1.0),
}
_PARSERS: dict[type, Callable[[str], OptionValue]] = {int: parse_int, float: parse_float, str: str}


@dataclass(frozen=True)
class FbankOptions:
    """Options of the filter bank, by Kaldi's names (``-`` is ``_``; milliseconds are in the name).

    The defaults are Kaldi's but for three: 40 mel bins instead of 23, the energy as the first column, and
    no dither.  ``dither`` is in units of the int16 range; ``low_freq`` and ``high_freq`` are in Hz, and a
    ``high_freq`` of 0 or less counts from the Nyquist frequency.

    Raises:
        ValueError: an option out of its range.
    """

    sample_frequency: float = 16000.0
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    num_mel_bins: int = 40
    use_energy: bool = True
    dither: float = 0.0
    preemphasis_coefficient: float = 0.97
    remove_dc_offset: bool = True
    window_type: str = "povey"
    blackman_coeff: float = 0.42
    round_to_power_of_two: bool = True
    snip_edges: bool = True
    low_freq: float = 20.0
    high_freq: float = 0.0
    energy_floor: float = 0.0
    raw_energy: bool = True
    htk_compat: bool = False
    use_log_fbank: bool = True
    use_power: bool = True
    subtract_mean: bool = False  # of the utterance, from every column

    def __post_init__(self) -> None:
        checks = {
            "sample_frequency": 0 < self.sample_frequency < math.inf,
            "frame_length_ms": self.window_size >= 2,
            "frame_shift_ms": self.window_shift >= 1,
            "num_mel_bins": self.num_mel_bins >= 3,
            "dither": 0 <= self.dither < math.inf,
            "preemphasis_coefficient": 0 <= self.preemphasis_coefficient <= 1,
            "window_type": self.window_type in WINDOW_TYPES,
            "energy_floor": 0 <= self.energy_floor < math.inf,
            "low_freq": 0 <= self.low_freq < self.nyquist,
            "high_freq": self.low_freq < self.upper_freq <= self.nyquist,
        }
        for name, holds in checks.items():
            if not holds:
                raise ValueError(f"fbank option {name}={getattr(self, name)!r} is out of its range")

    @property
    def window_size(self) -> int:
        """Samples of a frame."""
        return _num_samples(self.sample_frequency, self.frame_length_ms)

    @property
    def window_shift(self) -> int:
        """Samples from a frame to the next."""
        return _num_samples(self.sample_frequency, self.frame_shift_ms)

    @property
    def padded_window_size(self) -> int:
        """Length of the Fourier transform in samples."""
        if self.round_to_power_of_two:
            return 1 << (self.window_size - 1).bit_length()
        return self.window_size + self.window_size % 2

    @property
    def nyquist(self) -> float:
        """Half the sample frequency, in Hz."""
        return 0.5 * self.sample_frequency

    @property
    def upper_freq(self) -> float:
        """Upper end of the highest mel bin, in Hz."""
        return self.high_freq if self.high_freq > 0 else self.nyquist + self.high_freq

    @property
    def num_features(self) -> int:
        """Columns of the features: the mel bins, and the energy if used."""
        return self.num_mel_bins + int(self.use_energy)

    def num_frames(self, num_samples: int) -> int:
        """Count the frames of ``num_samples`` samples (``NumFrames`` in ``src/feat/feature-window.cc``)."""
        if self.snip_edges:
            if num_samples < self.window_size:
                return 0
            return 1 + (num_samples - self.window_size) // self.window_shift
        return (num_samples + self.window_shift // 2) // self.window_shift

    def to_dict(self) -> dict[str, OptionValue]:
        """Return plain values, as checkpoints hold them."""
        return asdict(self)

    def write_conf(self, path: Path) -> None:
        """Write every option as Kaldi's ``--name=value`` lines."""
        lines = [f"--{kaldi_name(field.name)}={_format(getattr(self, field.name))}" for field in fields(self)]
        write_text(path, "\n".join(lines) + "\n")

    @classmethod
    def read_conf(cls, path: Path, sample_frequency: float | None = None) -> "FbankOptions":
        """Read a Kaldi conf file; options that it does not name have their defaults.

        Args:
            sample_frequency: default of that option, in Hz; None is this class's.

        Raises:
            OSError: no such file.
            ValueError: an unknown option, or a value that does not fit (file and line are named).
        """
        known = {kaldi_name(field.name): field.name for field in fields(cls)}
        values: dict[str, Any] = {}
        if sample_frequency is not None:
            values["sample_frequency"] = sample_frequency
        for name, value, where in _read_options(path):
            if name in known:
                kind = type(getattr(cls(), known[name]))
                values[known[name]] = _parse_value(value, kind, f"{where}: --{name}")
            elif name in _IGNORED:
                kind, accepted = _IGNORED[name]
                if accepted not in (None, _parse_value(value, kind, f"{where}: --{name}")):
                    raise ValueError(f"{where}: --{name}={value} is not supported")
            else:
                raise ValueError(f"{where}: unknown option --{name}")
        with prefix_errors(str(path)):
            options = replace(cls(), **values)
        return options


@lru_cache  # called 15 times for an utterance
def _num_samples(sample_frequency: float, milliseconds: float) -> int:
    """Compute ``WindowSize`` of ``src/feat/feature-window.h``: float32 options, but a float64 product."""
    with np.errstate(over="ignore"):
        rate, length = float(np.float32(sample_frequency)), float(np.float32(milliseconds))
    product = rate * 0.001 * length
    return int(product) if math.isfinite(product) else 0


def options_at(conf: Path | None, sample_frequency: float) -> FbankOptions:
    """Return the options of a conf file, or the defaults, for recordings of a rate in Hz.

    A conf file that names a sample frequency keeps it.  Raises as `FbankOptions.read_conf`.
    """
    if conf is None:
        return FbankOptions(sample_frequency=sample_frequency)
    return FbankOptions.read_conf(conf, sample_frequency=sample_frequency)


def kaldi_name(field_name: str) -> str:
    """Return Kaldi's name of an option, as in ``--frame-length``."""
    return _KALDI_NAMES.get(field_name, field_name.replace("_", "-"))


def _format(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_channel(path: Path) -> int | None:
    """Read the channel, from 0, of a Kaldi conf file; None if it names none, or -1.

    Raises:
        ValueError: a line that is no option, or not a number.
    """
    channel = None
    for name, value, where in _read_options(path):
        if name == "channel":
            number = int(_parse_value(value, int, f"{where}: --{name}"))
            channel = None if number == -1 else number
    return channel


def _read_options(path: Path) -> Iterator[tuple[str, str | None, str]]:
    """Yield name in small letters, value (None without ``=``) and place of options (``ReadConfigFile``)."""
    for number, line in read_lines(path, comment=b"#"):
        name, equals, value = line.partition("=")
        name = name.strip(WHITESPACE).lower().replace("_", "-")
        if not name.startswith("--") or name == "--":
            raise ValueError(f"{path}, line {number}: expected --name=value, found {line!r}")
        yield name[2:], value.strip(WHITESPACE) if equals else None, f"{path}, line {number}"


def _parse_value(value: str | None, kind: type, where: str) -> OptionValue:
    if kind is bool:
        # Kaldi: a bare --use-energy is true.
        truth = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
        if value is None or value.lower() in truth:
            return value is None or truth[value.lower()]
        raise ValueError(f"{where}: expected true or false, found {value!r}")
    try:
        return _PARSERS[kind](value or "")
    except ValueError as error:
        raise ValueError(f"{where}: expected a value like {kind()!r}, found {value!r}") from error
