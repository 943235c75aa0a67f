"""What can be scored: data folders, tables of features, audio files; one utterance in memory at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from asr_bn.audio.reader import SkippedSegment, WaveformReader
from asr_bn.audio.source import AudioSource
from asr_bn.features.filterbank import fbank
from asr_bn.features.options import FbankOptions, kaldi_name
from asr_bn.kaldi_io.data_dir import DataDir, Utterance
from asr_bn.kaldi_io.matrix_table import read_matrices
from asr_bn.kaldi_io.script_file import read_table
from asr_bn.kaldi_io.specifiers import is_specifier
from asr_bn.system.arrays import Doubles, Floats
from asr_bn.system.notes import print_note

Feats = Iterator[tuple[str, Floats | Doubles]]
Failed = Callable[[str, Exception], None]


@dataclass(frozen=True)
class ScoringInput:
    """Utterances as features, computed where needed with the options of the model.

    Attributes:
        options: of the model's filter bank; its dither is left out.
        audio: how recordings are read.
    """

    options: FbankOptions
    audio: AudioSource = AudioSource()

    def feats(self, inputs: Sequence[str], failed: Failed | None = None) -> tuple[Feats, int | None]:
        """Iterate over utterance ids and features in order; also return their number if known beforehand.

        Args:
            inputs: a data folder, an ``ark:`` or ``scp:`` rspecifier of features, ``-`` (an archive of
                features on standard input), or one or more audio files, whose names are their ids.
            failed: called with the id and the error of audio that cannot be read, which is left out; None
                raises the error.

        Raises:
            OSError: no such file.
            ValueError: no input, several that are not all audio files, or an unreadable folder.
        """
        if not inputs:
            raise ValueError("nothing to score: expected a data folder, an rspecifier or audio files")
        first = inputs[0]
        if is_table(first) or Path(first).is_dir():
            if len(inputs) > 1:
                raise ValueError(f"{first}: expected it alone, or audio files only ({len(inputs)} inputs)")
            return self._of_table(first) if is_table(first) else self._of_data_dir(Path(first), failed)
        utterances = [Utterance(Path(name).stem, name, name, None, None, None) for name in inputs]
        here = replace(self, audio=replace(self.audio, root=None))
        return here._of_audio(utterances, failed), len(utterances)

    def audio_feats(self, path: Path) -> Floats:
        """Compute the features of one audio file; raises as `WaveformReader.read`."""
        if not path.is_file():
            raise FileNotFoundError(2, "no such audio file", str(path))
        ((_, feats),) = self._of_audio([Utterance(path.stem, str(path), str(path), None, None, None)])
        return feats

    def _of_table(self, rspecifier: str) -> tuple[Feats, None]:
        table = "ark:-" if rspecifier == "-" else rspecifier
        return read_matrices(table, self.audio.root, self.audio.pipes), None

    def _of_data_dir(self, path: Path, failed: Failed | None) -> tuple[Feats, int | None]:
        if has_only_feats(path):
            self._check_conf(path / "fbank.conf")
            return self._of_table(f"scp:{path / 'feats.scp'}")
        utterances = list(DataDir.read(path, self.audio.root).utterances.values())
        return self._of_audio(utterances, failed), len(utterances)

    def _check_conf(self, path: Path) -> None:
        """Refuse features that were made with other options, where the folder says how they were made."""
        if not path.exists():
            return
        theirs = FbankOptions.read_conf(path, sample_frequency=self.options.sample_frequency)
        for option in fields(theirs):
            found, expected = getattr(theirs, option.name), getattr(self.options, option.name)
            if found != expected and option.name != "dither":
                raise ValueError(
                    f"{path}: {kaldi_name(option.name)} is {found}, but the model's features have {expected}"
                )

    def _of_audio(
        self, utterances: Sequence[Utterance], failed: Failed | None = None
    ) -> Iterator[tuple[str, Floats]]:
        reader = WaveformReader(self.audio, int(self.options.sample_frequency))
        options = replace(self.options, dither=0.0)
        for utterance in utterances:
            try:
                samples = reader.read(utterance).samples
            except SkippedSegment as error:
                print_note(f"{error}; left out, as extract-segments does")
                continue
            except (ValueError, OSError) as error:
                if failed is None:
                    raise
                failed(utterance.utt_id, error)
                continue
            yield utterance.utt_id, fbank(samples, options)


def has_only_feats(data_dir: Path) -> bool:
    """Return whether a data folder is scored from its ``feats.scp``, since it has no ``wav.scp``."""
    return not (data_dir / "wav.scp").exists() and (data_dir / "feats.scp").exists()


def utterance_ids(data_dir: Path) -> list[str]:
    """List the utterances of a data folder that are scored.

    Raises:
        OSError, ValueError: see `DataDir.read`.
    """
    if has_only_feats(data_dir):
        return list(read_table(data_dir / "feats.scp"))
    return list(DataDir.read(data_dir).utterances)


def is_table(name: str) -> bool:
    """Return whether it is ``ark:``, ``scp:`` (with options), ``-`` or a bare ``*.ark`` or ``*.scp``."""
    return name == "-" or is_specifier(name) or name.endswith((".ark", ".scp"))
