"""``asr-bn features``: a data folder's features as a Kaldi archive, resumable, on several processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr_bn.extraction.archive_job import ArchiveJob
from asr_bn.extraction.computation import Computation, in_chunks
from asr_bn.extraction.engine import run_chunks
from asr_bn.extraction.request import ExtractionRequest
from asr_bn.kaldi_io.data_dir import Utterance
from asr_bn.system.files import write_bytes
from asr_bn.system.stamps import is_done, mark_done

# Utterances at a time: few stay in the cache, more make handing them to another process cheap.
CHUNK_SIZE, CHUNK_SIZE_OF_JOBS = 8, 32
_COPIED = ("utt2spk", "spk2utt", "text")


@dataclass(frozen=True)
class ExtractionSummary:
    """What is in the archive; ``num_reused`` utterances were there from an earlier run."""

    num_utterances: int
    num_frames: int
    hours: float
    num_empty: int
    num_reused: int


def extract_features(
    request: ExtractionRequest, num_jobs: int, engine: str = "processes"
) -> ExtractionSummary | None:
    """Write ``feats.ark``, ``fbank.conf``, copies of ``utt2spk`` and ``text``, and last ``feats.scp``.

    Returns:
        None if an earlier run has made the same archive from the same inputs.

    Raises:
        OSError, ValueError: something cannot be read or written, or no utterance has a frame; nothing is left
            under a final name, and what is done is kept for the next run.
    """
    utterances = request.utterances()
    made_from = request.fingerprint(utterances)
    stamp = request.out_dir / ".features.stamp.json"
    outputs = [request.out_dir / name for name in ("feats.ark", "feats.scp", "fbank.conf")]
    if is_done(stamp, made_from, outputs):
        return None
    job = ArchiveJob(request.out_dir, made_from)
    computation = request.computation(utterances)
    with job.open():
        num_reused = len(job.entries)
        _run(job, computation, utterances[num_reused:], num_jobs, engine)
        written = job.written()
        if not any(entry.num_frames for entry in written):
            raise ValueError(
                f"{request.data_dir}: none of {len(utterances)} utterances has a frame"
                f" ({len(utterances) - len(written)} segments left out)"
            )
        computation.fbank.write_conf(request.out_dir / "fbank.conf")
        _copy_tables(request.data_dir, request.out_dir)
        job.finish()
    mark_done(stamp, made_from)
    return ExtractionSummary(
        num_utterances=len(written),
        num_frames=sum(entry.num_frames for entry in written),
        hours=sum(entry.seconds for entry in written) / 3600,
        num_empty=sum(entry.num_frames == 0 for entry in written),
        num_reused=num_reused,
    )


def _run(
    job: ArchiveJob, computation: Computation, todo: Sequence[Utterance], num_jobs: int, engine: str
) -> None:
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # its thread would keep the processes from being forked
    done = len(job.entries)
    num_jobs = min(num_jobs, -(-len(todo) // CHUNK_SIZE)) or 1
    chunks = in_chunks(todo, CHUNK_SIZE if num_jobs == 1 else CHUNK_SIZE_OF_JOBS, num_jobs)
    with tqdm(total=done + len(todo), initial=done, desc="features", unit="utt", smoothing=0) as progress:
        for chunk in run_chunks(computation, chunks, num_jobs, job.spool, engine):
            job.append(chunk)
            progress.update(len(chunk.entries))


def _copy_tables(data_dir: Path, out_dir: Path) -> None:
    for name in _COPIED:
        source = data_dir / name
        if source.exists() and source.resolve() != (out_dir / name).resolve():
            write_bytes(out_dir / name, source.read_bytes())
