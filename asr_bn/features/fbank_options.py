"""Kaldi's options of ``compute-fbank-feats``, and its conf files."""

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from asr_bn.files import write_text
from asr_bn.kaldi_io.script_file import read_lines

WINDOW_TYPES = ("hamming", "hanning", "povey", "rectangular", "sine", "blackman")
_KALDI_NAMES = {"frame_length_ms": "frame-length", "frame_shift_ms": "frame-shift"}
# Of Kaldi's program, not of the features: what they would ask for is done here by other means, or nothing.
_IGNORED = {
    "debug": "false",
    "debug-mel": "false",
    "verbose": None,
    "output-format": "kaldi",
    "channel": "-1",
    "min-duration": "0",
    "max-feature-vectors": "-1",
    "allow-downsample": "false",
    "allow-upsample": "false",
    "vtln-low": None,
    "vtln-high": None,
    "vtln-warp": "1",
}


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
        return int(self.sample_frequency * 0.001 * self.frame_length_ms)

    @property
    def window_shift(self) -> int:
        """Samples from a frame to the next."""
        return int(self.sample_frequency * 0.001 * self.frame_shift_ms)

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
        """Frames that ``num_samples`` samples give (``NumFrames`` in ``src/feat/feature-window.cc``)."""
        if self.snip_edges:
            if num_samples < self.window_size:
                return 0
            return 1 + (num_samples - self.window_size) // self.window_shift
        return (num_samples + self.window_shift // 2) // self.window_shift

    def to_dict(self) -> dict[str, Any]:
        """Plain values; later options only where they are set, so that what older runs wrote stays equal."""
        values = asdict(self)
        if not self.subtract_mean:
            del values["subtract_mean"]
        return values

    def write_conf(self, path: Path) -> None:
        """Write every option as Kaldi's ``--name=value`` lines."""
        lines = [f"--{kaldi_name(field.name)}={_format(getattr(self, field.name))}" for field in fields(self)]
        write_text(path, "\n".join(lines) + "\n")

    @classmethod
    def read_conf(cls, path: Path, **defaults: Any) -> "FbankOptions":
        """Read a Kaldi conf file; options it does not name keep ``defaults`` or this class's defaults.

        Raises:
            OSError: no such file.
            ValueError: an unknown option, or a value that does not fit (file and line are named).
        """
        known = {kaldi_name(field.name): field.name for field in fields(cls)}
        values: dict[str, Any] = {}
        for number, line in read_lines(path):
            text = line.partition("#")[0].strip()
            if text:
                name, value = _parse_line(text, f"{path}, line {number}", known)
                if name is not None:
                    values[name] = value
        try:
            return replace(cls(**{k: v for k, v in defaults.items() if k not in values}), **values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def kaldi_name(field_name: str) -> str:
    """Kaldi's name of an option, as in ``--frame-length``."""
    return _KALDI_NAMES.get(field_name, field_name.replace("_", "-"))


def _format(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parse_line(text: str, where: str, known: dict[str, str]) -> tuple[str | None, Any]:
    name, equals, value = text.partition("=")
    name, value = name.strip().removeprefix("--").replace("_", "-"), value.strip()
    if not text.startswith("--") or not name:
        raise ValueError(f"{where}: expected --name=value, found {text!r}")
    if name in _IGNORED:
        if _IGNORED[name] not in (None, value):
            raise ValueError(f"{where}: --{name}={value} is not supported")
        return None, None
    if name not in known:
        raise ValueError(f"{where}: unknown option --{name}")
    kind = type(getattr(FbankOptions(), known[name]))
    return known[name], _parse_value(value if equals else None, kind, f"{where}: --{name}")


def _parse_value(value: str | None, kind: type, where: str) -> Any:
    if kind is bool:
        # Kaldi: a bare --use-energy is true.
        if value in (None, "", "true", "t", "1"):
            return True
        if value in ("false", "f", "0"):
            return False
        raise ValueError(f"{where}: expected true or false, found {value!r}")
    try:
        return kind(value or "")
    except ValueError as error:
        raise ValueError(f"{where}: expected a value like {kind()!r}, found {value!r}") from error
