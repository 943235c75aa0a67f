"""Work that is done once: what the verbs that leave a stamp have in common."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import typer

from asr_bn.data.source_files import SourceFiles
from asr_bn.system import stamps
from asr_bn.system.files import find_place


class Stage:
    """Outputs, what they are made from, and the stamp that says so; see `asr_bn.system.stamps`.

    Args:
        stamp: the stamp's file; None where the outputs have to be written every time.
        outputs: files that are there when the work is done.
        options: what the outputs depend on beside files; JSON can hold it.
        sources: files that the outputs depend on; those that count by their contents have to be there.
    """

    def __init__(
        self, stamp: Path | None, outputs: Iterable[Path], options: Mapping[str, object], sources: SourceFiles
    ) -> None:
        self.stamp, self._outputs, self._remark = stamp, outputs, sources.remark
        self._made_from = stamps.fingerprint(options, sources.small, sources.large)

    def is_done(self, message: str) -> bool:
        """Return whether an earlier run made the same outputs from the same; print ``message`` if so."""
        if self.stamp is None or not stamps.is_done(self.stamp, self._made_from, self._outputs):
            return False
        typer.echo(f"{message}{self._remark}", err=True)
        return True

    def mark_done(self) -> None:
        """Write the stamp; call it after the last output has its final name."""
        if self.stamp is not None:
            stamps.mark_done(self.stamp, self._made_from)


def stamp_beside(output: Path) -> Path | None:
    """Return the stamp's name for a file of any name; None for a device or a FIFO, written every time."""
    return output.parent / f".{output.name}.done" if find_place(output)[1] else None


def aligned_sources(data: Path, ali: Path) -> SourceFiles:
    """Return the files of a set of features and its alignments."""
    return SourceFiles.of_data_dir(data) + SourceFiles.of_alignments(ali)
