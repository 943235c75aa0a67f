"""An archive that grows over several runs: what is written stays, and a run goes on where the last stopped.

The data go to ``.feats.partial.ark``; ``.feats.partial.journal`` has a line for every finished utterance,
written after its data.  Only when all are there do ``feats.ark`` and then ``feats.scp`` get their names.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap
from pathlib import Path
from typing import IO

from asr_bn.extraction.computation import Chunk, Entry
from asr_bn.kaldi_io.wxfilename import check_archive_name
from asr_bn.system.files import atomic_path, find_place, naming_errors, remove_plain


class ArchiveJob:
    """``OUT_DIR/feats.ark`` and ``feats.scp`` in the making.

    Args:
        out_dir: the folder.
        made_from: fingerprint of the inputs; a partial archive of other inputs is deleted.

    Attributes:
        spool: an empty folder beside the archive, while the job is open.

    Raises:
        OSError: one of the names is a folder, or the folder cannot be made.
        ValueError: a script file cannot hold the archive's name, or the archive is no file.
    """

    def __init__(self, out_dir: Path, made_from: str) -> None:
        self.archive = out_dir / "feats.ark"
        self.script = out_dir / "feats.scp"
        check_archive_name(str(self.archive.absolute()))
        find_place(self.script)
        self._place, is_plain = find_place(self.archive)  # on another disk, perhaps
        if not is_plain:
            raise ValueError(f"{self.archive}: not a file; an archive that grows over several runs has to be")
        self._partial = self._place.with_name(f".{self._place.stem}.partial.ark")
        self._journal = out_dir / ".feats.partial.journal"
        self.spool = out_dir / ".feats.partial.spool"
        self._made_from = made_from
        self.entries: list[Entry] = []
        out_dir.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def open(self) -> Iterator["ArchiveJob"]:
        """Take the folder for this process and read what an earlier run left.

        Raises:
            ValueError: another process is writing there.
            OSError: the folder cannot be written (the message names the file).
        """
        with self._journal.open("a+b") as journal, self._partial.open("a+b") as partial:
            try:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ValueError(f"{self.archive.parent}: another process is writing there") from error
            self._journal_stream, self._partial_stream = journal, partial
            self._recover()
            shutil.rmtree(self.spool, ignore_errors=True)  # of an earlier run that was killed
            self.spool.mkdir()
            try:
                yield self
            finally:
                shutil.rmtree(self.spool, ignore_errors=True)

    def append(self, chunk: Chunk) -> None:
        """Add a chunk's data, then its lines in the journal."""
        offset = self._partial_stream.tell()
        entries = [
            Entry(e.utt_id, offset + e.start, offset + e.end, e.num_frames, e.seconds) for e in chunk.entries
        ]
        lines = "".join(json.dumps(list(vars(entry).values())) + "\n" for entry in entries)
        _write(self._partial_stream, chunk.data, self._partial)
        _write(self._journal_stream, lines.encode(), self._journal)
        self.entries += entries

    def written(self) -> list[Entry]:
        """List the entries in the archive: all but the segments that were left out."""
        return [entry for entry in self.entries if entry.end > entry.start]

    def finish(self) -> None:
        """Give the archive and then the script file their names."""
        os.fsync(self._partial_stream.fileno())
        with atomic_path(self.script) as script:
            with script.open("w", encoding="utf-8") as stream:
                for entry in self.written():
                    stream.write(f"{entry.utt_id} {self.archive.absolute()}:{entry.start}\n")
            remove_plain(self.script)  # one of an older archive must not point into the new one
            self._partial.replace(self._place)
        self._journal.unlink()

    def _recover(self) -> None:
        lines = self._complete_lines()
        if not lines or lines[0] != self._made_from.encode():
            lines = []
        size = os.fstat(self._partial_stream.fileno()).st_size
        for line in lines[1:]:
            entry = _parse(line)
            if entry is None or entry.end > size:
                break
            self.entries.append(entry)
        _keep(self._partial_stream, self.entries[-1].end if self.entries else 0)
        _keep(self._journal_stream, sum(len(line) + 1 for line in lines[: len(self.entries) + 1]))
        if not lines:
            _write(self._journal_stream, f"{self._made_from}\n".encode(), self._journal)

    def _complete_lines(self) -> list[bytes]:
        self._journal_stream.seek(0)
        return self._journal_stream.read().split(b"\n")[:-1]


def _parse(line: bytes) -> Entry | None:
    try:
        return Entry(*json.loads(line))
    except (ValueError, TypeError):
        return None


def _keep(stream: IO[bytes], size: int) -> None:
    stream.truncate(size)
    stream.seek(size)


def _write(stream: IO[bytes], data: bytes | memoryview | mmap, path: Path) -> None:
    with naming_errors(path):
        stream.write(data)
        stream.flush()
