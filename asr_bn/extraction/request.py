"""What the user of ``asr-bn features`` asked for, checked and made precise."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from asr_bn.audio.reader import read_waveform
from asr_bn.audio.source import AudioSource
from asr_bn.data.source_files import SourceFiles
from asr_bn.extraction.computation import Computation, ExtractionOptions
from asr_bn.features.cmvn import Cmvn
from asr_bn.features.options import FbankOptions, options_at, read_channel
from asr_bn.kaldi_io.data_dir import DataDir, Utterance
from asr_bn.kaldi_io.script_file import read_table
from asr_bn.system import stamps

_FORMAT = 3  # raise it when the same inputs give other features
_TABLES = ("wav.scp", "segments", "utt2spk", "spk2utt", "text")


@dataclass(frozen=True)
class ExtractionRequest:
    """Inputs and outputs of an extraction.

    Attributes:
        fbank_conf: Kaldi conf file of the filter bank.
        sample_frequency: in Hz; None takes the conf file's, or else that of the first recording.
        cmvn: statistics to normalize with, with ``norm_vars`` the variance too; see `Cmvn.load`.
    """

    data_dir: Path
    out_dir: Path
    options: ExtractionOptions = ExtractionOptions()
    fbank_conf: Path | None = None
    sample_frequency: int | None = None
    cmvn: str | None = None
    norm_vars: bool = False

    def utterances(self) -> list[Utterance]:
        """Read the data folder's utterances, or those of ``feats_scp``, in file order.

        Raises:
            OSError, ValueError: see `DataDir.read`; an empty ``feats_scp``.
        """
        feats_scp = self.options.feats_scp
        if feats_scp is None:
            return list(DataDir.read(self.data_dir, self.options.audio.root).utterances.values())
        utt2spk, table = self._utt2spk(), read_table(feats_scp)
        if not table:
            raise ValueError(f"{feats_scp}: no utterances")
        return [Utterance(u, u, name, None, None, utt2spk.get(u)) for u, name in table.items()]

    def sources(self, utterances: Sequence[Utterance]) -> SourceFiles:
        """Collect every file that the features depend on."""
        sources = SourceFiles.of(self.data_dir / name for name in _TABLES)
        sources += SourceFiles.of_names(
            ((u.utt_id, u.rxfilename) for u in utterances), self.options.audio.root
        )
        files = (self._conf_path(), self.options.feats_scp)
        sources += SourceFiles.of(path for path in files if path is not None)
        if self.cmvn is not None:
            sources += SourceFiles.of_table(self.cmvn, self.options.audio.root)
        return sources

    def fingerprint(self, utterances: Sequence[Utterance]) -> str:
        """Compute the fingerprint of all that the features depend on, except what commands read."""
        sources = self.sources(utterances)
        inputs = vars(self) | vars(self.options) | vars(self.options.audio)
        del inputs["options"], inputs["audio"]
        inputs |= {"format": _FORMAT, "out_dir": None, "pipes": None}
        return stamps.fingerprint(inputs, sources.small, sources.large)

    def computation(self, utterances: Sequence[Utterance]) -> Computation:
        """Decide how to compute the features.

        Raises:
            OSError, ValueError: a conf file or CMVN statistics that cannot be read; no rate to be had.
        """
        cmvn, audio = None, self.options.audio
        if self.cmvn is not None:
            cmvn = Cmvn.load(self.cmvn, self._utt2spk(), self.norm_vars, audio.root, audio.pipes)
        return Computation(self._fbank(utterances), replace(self.options, audio=self._audio()), cmvn)

    def _fbank(self, utterances: Sequence[Utterance]) -> FbankOptions:
        """Decide the filter bank's options; a sample frequency that nobody named is reported."""
        if self.sample_frequency is not None:
            rate = float(self.sample_frequency)
            return replace(options_at(self._conf_path(), rate), sample_frequency=rate)
        if self.options.feats_scp is not None:
            return self._fbank_of_feats(self.options.feats_scp)
        # Its segment, or the channel of it, may be one to leave out.
        recording = replace(utterances[0], start=None, end=None, channel=0)
        rate = float(read_waveform(recording, self._audio()).sample_frequency)
        options = options_at(self._conf_path(), rate)
        if options.sample_frequency == rate:
            print(f"sample frequency: {rate:g} Hz, as {utterances[0].utt_id} has", file=sys.stderr)
        return options

    def _fbank_of_feats(self, feats_scp: Path) -> FbankOptions:
        path = self._conf_path()
        if path is None or not path.exists():
            raise ValueError(
                f"{feats_scp}: no fbank.conf beside it says how these features were made;"
                " give it with --fbank-conf"
            )
        return FbankOptions.read_conf(path)

    def _audio(self) -> AudioSource:
        """Return how recordings are read: with the conf file's channel, where none was asked for."""
        path, audio = self._conf_path(), self.options.audio
        if path is None or audio.channel is not None:
            return audio
        return replace(audio, channel=read_channel(path))

    def _conf_path(self) -> Path | None:
        if self.fbank_conf is None and self.options.feats_scp is not None:
            return self.options.feats_scp.parent / "fbank.conf"
        return self.fbank_conf

    def _utt2spk(self) -> dict[str, str]:
        path = self.data_dir / "utt2spk"
        return read_table(path) if path.exists() else {}
