"""What the user of ``asr-bn features`` asked for, checked and made precise."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from asr_bn import stamps
from asr_bn.audio import WaveformReader
from asr_bn.features.cmvn import Cmvn
from asr_bn.features.computation import Computation
from asr_bn.features.fbank_options import FbankOptions, read_channel
from asr_bn.kaldi_io.data_dir import DataDir, Utterance
from asr_bn.kaldi_io.rxfilename import DEFAULT_PIPES, PipePolicy, is_pipe, resolve, split_offset
from asr_bn.kaldi_io.script_file import read_table

_FORMAT = 2  # raise it when the same inputs give other features
_TABLES = ("wav.scp", "segments", "utt2spk", "spk2utt", "text")


@dataclass(frozen=True)
class ExtractionRequest:
    """Inputs of an extraction; see `Computation` for the fields of the same name.

    ``fbank_conf`` is a Kaldi conf file; ``sample_frequency`` None is the rate that the conf file names, or
    else the rate of the first recording.  ``feats_scp`` are features to read instead of audio, ``cmvn``
    names the statistics to normalize with (see `Cmvn.load`).
    """

    data_dir: Path
    out_dir: Path
    fbank_conf: Path | None = None
    sample_frequency: int | None = None
    root: Path | None = None
    channel: int | None = None
    resample: bool = False
    pipes: PipePolicy = DEFAULT_PIPES
    deltas: bool = False
    compress: bool = False
    seed: int = 0
    feats_scp: Path | None = None
    cmvn: str | None = None
    norm_vars: bool = False

    def utterances(self) -> list[Utterance]:
        """The data folder's utterances, or those of ``feats_scp``, in file order.

        Raises:
            OSError, ValueError: see `DataDir.read`.
        """
        if self.feats_scp is None:
            return list(DataDir.read(self.data_dir, self.root).utterances.values())
        utt2spk = self._utt2spk()
        return [
            Utterance(utt_id, utt_id, name, None, None, utt2spk.get(utt_id))
            for utt_id, name in read_table(self.feats_scp).items()
        ]

    def fingerprint(self, utterances: Sequence[Utterance]) -> str:
        """Of everything that the features depend on."""
        files = [self.data_dir / name for name in _TABLES] + [self._conf_path(), self.feats_scp]
        existing = [path for path in files if path is not None and path.exists()]
        if self.cmvn is not None and Path(self.cmvn).exists():
            existing.append(Path(self.cmvn))
        inputs = {
            "format": _FORMAT,
            "files": _sizes_and_times(utterances, self.root),
            **vars(self),
            "out_dir": None,
        }
        return stamps.fingerprint(inputs, existing)

    def computation(self, utterances: Sequence[Utterance]) -> Computation:
        """How to compute the features.

        Raises:
            OSError, ValueError: a conf file or CMVN statistics that cannot be read; no rate to be had.
        """
        cmvn = None
        if self.cmvn is not None:
            cmvn = Cmvn.load(self.cmvn, self._utt2spk(), self.norm_vars, self.root, self.pipes)
        return Computation(
            self._options(utterances),
            self.root,
            self._channel(),
            self.resample,
            self.pipes,
            self.deltas,
            self.compress,
            self.seed,
            self.feats_scp,
            cmvn,
        )

    def _options(self, utterances: Sequence[Utterance]) -> FbankOptions:
        """The filter bank's options, the sample frequency decided (and said, if nobody named it)."""
        if self.sample_frequency is not None:
            rate = float(self.sample_frequency)
            return replace(self._from_conf(rate), sample_frequency=rate)
        if self.feats_scp is not None:
            return self._options_of_feats()
        reader = WaveformReader(self.root, self._channel(), pipes=self.pipes)
        rate = float(reader.read(utterances[0]).sample_frequency)
        options = self._from_conf(rate)
        if options.sample_frequency == rate:
            print(f"sample frequency: {rate:g} Hz, as {utterances[0].utt_id} has", file=sys.stderr)
        return options

    def _options_of_feats(self) -> FbankOptions:
        path = self._conf_path()
        if path is None or not path.exists():
            raise ValueError(
                f"{self.feats_scp}: no fbank.conf beside it says how these features were made;"
                " give it with --fbank-conf"
            )
        return FbankOptions.read_conf(path)

    def _channel(self) -> int | None:
        """The channel that was asked for, or else the conf file's."""
        path = self._conf_path()
        return read_channel(path) if self.channel is None and path is not None else self.channel

    def _conf_path(self) -> Path | None:
        if self.fbank_conf is None and self.feats_scp is not None:
            return self.feats_scp.parent / "fbank.conf"
        return self.fbank_conf

    def _from_conf(self, sample_frequency: float) -> FbankOptions:
        path = self._conf_path()
        if path is None:
            return FbankOptions(sample_frequency=sample_frequency)
        return FbankOptions.read_conf(path, sample_frequency=sample_frequency)

    def _utt2spk(self) -> dict[str, str]:
        path = self.data_dir / "utt2spk"
        return read_table(path) if path.exists() else {}


def _sizes_and_times(utterances: Sequence[Utterance], root: Path | None) -> str:
    """Digest of the input files' sizes and times: their contents take as long to read as the features."""
    digest = hashlib.sha256()
    for name in dict.fromkeys(utterance.rxfilename for utterance in utterances):
        if not is_pipe(name):
            digest.update(f"{name} {_size_and_time(resolve(split_offset(name)[0], root))}\n".encode())
    return digest.hexdigest()


def _size_and_time(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "missing"  # reported, with its utterance, when it is to be read
    return f"{status.st_size} {status.st_mtime_ns}"
