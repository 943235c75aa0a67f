"""``asr-bn features``: a data folder's features as a Kaldi archive, resumable, on several processes."""

import hashlib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from asr_bn.audio import WaveformReader
from asr_bn.features.archive_job import ArchiveJob
from asr_bn.features.computation import Computation, in_chunks
from asr_bn.features.engine import run_chunks
from asr_bn.features.fbank_options import FbankOptions
from asr_bn.files import atomic_path
from asr_bn.kaldi_io.data_dir import DataDir, Utterance
from asr_bn.kaldi_io.rxfilename import DEFAULT_PIPES, PipePolicy, is_pipe, resolve, split_offset
from asr_bn.stamps import fingerprint, is_done, mark_done

_FORMAT = 1  # raise it when the same inputs give other features
_CHUNK = 32
_COPIED = ("utt2spk", "spk2utt", "text")


@dataclass(frozen=True)
class ExtractionRequest:
    """What the user asked for; see `Computation` for the fields of the same name.

    ``fbank_conf`` is a Kaldi conf file; ``sample_frequency`` None is the rate that the conf file names, or
    else the rate of the first recording.
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


@dataclass(frozen=True)
class ExtractionSummary:
    """What is in the archive; ``num_reused`` utterances were there from an earlier run."""

    num_utterances: int
    num_frames: int
    hours: float
    num_empty: int
    num_reused: int


def extract_features(request: ExtractionRequest, num_jobs: int) -> ExtractionSummary | None:
    """Write ``feats.ark``, ``fbank.conf``, copies of ``utt2spk`` and ``text``, and last ``feats.scp``.

    Returns None if an earlier run made the same from the same.

    Raises:
        OSError, ValueError: something cannot be read or written; nothing is left under a final name, and
            what is done is kept for the next run.
    """
    data = DataDir.read(request.data_dir, request.root)
    made_from = _fingerprint(request, data)
    stamp = request.out_dir / ".features.stamp.json"
    outputs = [request.out_dir / name for name in ("feats.ark", "feats.scp", "fbank.conf")]
    if is_done(stamp, made_from, outputs):
        return None
    computation = _computation(request, data)
    job = ArchiveJob(request.out_dir, made_from)
    with job.open():
        num_reused = len(job.entries)
        _run(job, computation, list(data.utterances.values())[num_reused:], num_jobs)
        computation.options.write_conf(request.out_dir / "fbank.conf")
        _copy_tables(request.data_dir, request.out_dir)
        job.finish()
    mark_done(stamp, made_from)
    return ExtractionSummary(
        num_utterances=len(job.entries),
        num_frames=sum(entry.num_frames for entry in job.entries),
        hours=sum(entry.seconds for entry in job.entries) / 3600,
        num_empty=sum(entry.num_frames == 0 for entry in job.entries),
        num_reused=num_reused,
    )


def _run(job: ArchiveJob, computation: Computation, todo: Sequence[Utterance], num_jobs: int) -> None:
    from tqdm import tqdm

    done, num_jobs = len(job.entries), min(num_jobs, -(-len(todo) // _CHUNK)) or 1
    with tqdm(total=done + len(todo), initial=done, desc="features", unit="utt", smoothing=0) as progress:
        for chunk in run_chunks(computation, in_chunks(todo, _CHUNK), num_jobs):
            job.append(chunk)
            progress.update(len(chunk.entries))


def _computation(request: ExtractionRequest, data: DataDir) -> Computation:
    return Computation(
        _options(request, data),
        request.root,
        request.channel,
        request.resample,
        request.pipes,
        request.deltas,
        request.compress,
        request.seed,
    )


def _options(request: ExtractionRequest, data: DataDir) -> FbankOptions:
    """The filter bank's options, the sample frequency decided (and said, if nobody named it)."""
    if request.sample_frequency is not None:
        given = {"sample_frequency": float(request.sample_frequency)}
        options = _from_conf(request, **given)
        return replace(options, **given)
    first = next(iter(data.utterances.values()))
    reader = WaveformReader(request.root, request.channel, pipes=request.pipes)
    rate = reader.read(first).sample_frequency
    options = _from_conf(request, sample_frequency=float(rate))
    if options.sample_frequency == rate:
        print(f"sample frequency: {rate} Hz, as {first.utt_id} has", file=sys.stderr)
    return options


def _from_conf(request: ExtractionRequest, sample_frequency: float) -> FbankOptions:
    if request.fbank_conf is None:
        return FbankOptions(sample_frequency=sample_frequency)
    return FbankOptions.read_conf(request.fbank_conf, sample_frequency=sample_frequency)


def _fingerprint(request: ExtractionRequest, data: DataDir) -> str:
    names = [request.data_dir / name for name in ("wav.scp", "segments", *_COPIED)]
    files = [path for path in names if path.exists()]
    if request.fbank_conf is not None:
        files.append(request.fbank_conf)
    inputs = {"format": _FORMAT, "audio": _audio_digest(data), **vars(request), "out_dir": None}
    return fingerprint(inputs, files)


def _audio_digest(data: DataDir) -> str:
    """Sizes and times of the audio files: their contents would take as long to read as the features."""
    digest = hashlib.sha256()
    for name in dict.fromkeys(utterance.rxfilename for utterance in data.utterances.values()):
        if not is_pipe(name):
            digest.update(f"{name} {_size_and_time(resolve(split_offset(name)[0], data.root))}\n".encode())
    return digest.hexdigest()


def _size_and_time(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "missing"  # reported, with its utterance, when it is to be read
    return f"{status.st_size} {status.st_mtime_ns}"


def _copy_tables(data_dir: Path, out_dir: Path) -> None:
    for name in _COPIED:
        source = data_dir / name
        if source.exists() and source.resolve() != (out_dir / name).resolve():
            with atomic_path(out_dir / name) as temporary:
                shutil.copyfile(source, temporary)
