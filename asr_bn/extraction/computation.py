"""From utterances to the bytes of an archive: what one process does, the same whoever runs it."""

import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from mmap import mmap
from pathlib import Path
from typing import IO

import numpy as np

from asr_bn.audio.reader import SkippedSegment, WaveformReader
from asr_bn.audio.source import AudioSource
from asr_bn.features.cmvn import Cmvn
from asr_bn.features.deltas import add_deltas
from asr_bn.features.filterbank import fbank
from asr_bn.features.options import FbankOptions
from asr_bn.kaldi_io.data_dir import Utterance
from asr_bn.kaldi_io.matrix_table import MatrixScp, encode_table_matrix
from asr_bn.system.arrays import Floats
from asr_bn.system.notes import print_note


@dataclass(frozen=True)
class Entry:
    """An utterance in a chunk: where its matrix starts and ends (bytes), its frames and its seconds.

    A segment that was left out has no bytes.
    """

    utt_id: str
    start: int
    end: int
    num_frames: int
    seconds: float


@dataclass(frozen=True)
class Chunk:
    """Some utterances' part of the archive."""

    entries: list[Entry]
    data: bytes | mmap


@dataclass(frozen=True)
class ExtractionOptions:
    """What the user of ``asr-bn features`` decides and every process has to know, beside the filter bank.

    Attributes:
        audio: how recordings are read.
        deltas: append first and second deltas.
        compress: write Kaldi's compressed matrices.
        seed: of the dither; every utterance has a seed of its own, so their order does not matter.
        feats_scp: read static features from there instead of computing them.
    """

    audio: AudioSource = AudioSource()
    deltas: bool = False
    compress: bool = False
    seed: int = 0
    feats_scp: Path | None = None


@dataclass(frozen=True)
class Computation:
    """How utterances become features.

    Attributes:
        fbank: the filter bank, with the sample frequency of the recordings.
        options: all else that the user decides.
        cmvn: normalize the static features.
    """

    fbank: FbankOptions
    options: ExtractionOptions
    cmvn: Cmvn | None = None

    def feats(self, utterance: Utterance) -> tuple[Floats, float]:
        """Compute an utterance's features ``[num_frames, num_features]``, and its length in seconds.

        Raises:
            ValueError: it cannot be read, or its rate is not the one of ``fbank``.
        """
        feats, seconds = (
            self._computed(utterance) if self.options.feats_scp is None else self._read(utterance)
        )
        if self.cmvn is not None:
            feats = self.cmvn.apply(utterance.utt_id, feats)
        return (add_deltas(feats) if self.options.deltas else feats), seconds

    def _computed(self, utterance: Utterance) -> tuple[Floats, float]:
        waveform = self._reader.read(utterance)
        seed = self.options.seed << 32 | zlib.crc32(utterance.utt_id.encode())
        feats = fbank(waveform.samples, self.fbank, seed)
        return feats, len(waveform.samples) / waveform.sample_frequency

    def _read(self, utterance: Utterance) -> tuple[Floats, float]:
        feats = self._scp[utterance.utt_id].astype(np.float32, copy=False)
        if feats.size and feats.shape[1] != self.fbank.num_features:
            raise ValueError(
                f"{utterance.utt_id}: {self.options.feats_scp}: {feats.shape[1]} columns, but fbank.conf says"
                f" {self.fbank.num_features}"
            )
        return feats, len(feats) * self.fbank.frame_shift_ms / 1000

    def write_chunk(self, utterances: Sequence[Utterance], stream: IO[bytes]) -> list[Entry]:
        """Write the archive's bytes for ``utterances``, in their order.

        Segments that Kaldi leaves out are left out, with a note.
        """
        entries, end = [], 0
        for utterance in utterances:
            try:
                feats, seconds = self.feats(utterance)
            except SkippedSegment as error:
                print_note(f"{error}; left out, as extract-segments does")
                entries.append(Entry(utterance.utt_id, end, end, 0, 0.0))
                continue
            key = f"{utterance.utt_id} ".encode()
            method = 1 if self.options.compress else None
            matrix = encode_table_matrix(utterance.utt_id, feats, compression_method=method)
            # One by one: what was just computed is still in the processor's cache.
            stream.write(key)
            stream.write(matrix)
            start, end = end + len(key), end + len(key) + len(matrix)
            entries.append(Entry(utterance.utt_id, start, end, len(feats), seconds))
        return entries

    def chunk(self, utterances: Sequence[Utterance]) -> Chunk:
        """Compute the archive's bytes for ``utterances`` in memory; see `write_chunk`."""
        stream = io.BytesIO()
        return Chunk(self.write_chunk(utterances, stream), stream.getvalue())

    @cached_property
    def _reader(self) -> WaveformReader:
        rate = self.fbank.sample_frequency
        return WaveformReader(self.options.audio, int(rate) if rate == int(rate) else None)

    @cached_property
    def _scp(self) -> MatrixScp:
        if self.options.feats_scp is None:
            raise ValueError("no feats.scp to read features from")
        return MatrixScp(self.options.feats_scp, self.options.audio.root, self.options.audio.pipes)


def in_chunks(utterances: Sequence[Utterance], size: int, num_jobs: int = 1) -> Iterator[list[Utterance]]:
    """Yield ``size`` utterances at a time, fewer towards the end of several jobs: all end together."""
    start = 0
    while start < len(utterances):
        left = len(utterances) - start
        take = size if num_jobs == 1 else max(1, min(size, left // (2 * num_jobs)))
        yield list(utterances[start : start + take])
        start += take
