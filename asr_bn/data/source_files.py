"""The files behind a data folder, a table or an alignment folder, for the fingerprints of stamps.

A change in what a command in a script file reads is not noticed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from asr_bn.data.alignments import MODEL_NAMES, ali_archives, pdf_archives
from asr_bn.data.kaldi_system import system_path
from asr_bn.kaldi_io.plain_text import WHITESPACE
from asr_bn.kaldi_io.rxfilename import is_pipe, resolve, split_offset
from asr_bn.kaldi_io.script_file import read_table
from asr_bn.kaldi_io.specifiers import parse_rspecifier
from asr_bn.kaldi_io.utterance_id import prefix_errors

_TABLES = ("wav.scp", "segments", "utt2spk", "spk2utt", "text", "feats.scp", "fbank.conf")


@dataclass(frozen=True)
class SourceFiles:
    """Files that count by their contents (``small``) and by size and time (``large``), for `fingerprint`.

    ``num_commands`` is how many names are commands.
    """

    small: tuple[Path, ...] = ()
    large: tuple[Path, ...] = ()
    num_commands: int = 0

    def __add__(self, other: "SourceFiles") -> "SourceFiles":
        return SourceFiles(
            self.small + other.small, self.large + other.large, self.num_commands + other.num_commands
        )

    @property
    def remark(self) -> str:
        """A remark for "done already" messages, if commands were not compared."""
        return " (what the commands in it read was not compared)" if self.num_commands else ""

    @classmethod
    def of(cls, paths: Iterable[Path]) -> "SourceFiles":
        """Collect those of ``paths`` that exist, compared by contents; a FIFO counts as a command."""
        there = [path for path in paths if path.exists() and not path.is_dir()]
        files = tuple(path for path in there if path.is_file())
        return cls(files, (), len(there) - len(files))

    @classmethod
    def of_names(cls, rxfilenames: Iterable[tuple[str, str]], root: Path | None = None) -> "SourceFiles":
        """Collect what (utterance id, rxfilename) pairs name, each file once.

        Raises:
            ValueError: a name that no file can have.
        """
        names = {name: utt_id for utt_id, name in rxfilenames}
        files: dict[Path, None] = {}
        for name, utt_id in names.items():
            if not is_pipe(name):
                name = name.rpartition("[")[0].rstrip(WHITESPACE) if name.endswith("]") else name
                with prefix_errors(utt_id):
                    files[resolve(split_offset(name)[0], root)] = None
        return cls((), tuple(files), sum(map(is_pipe, names)))

    @classmethod
    def of_data_dir(cls, folder: Path, root: Path | None = None) -> "SourceFiles":
        """Collect a data folder's tables, and the audio and archives that they name.

        Raises:
            ValueError: a script file that is malformed.
        """
        sources = cls.of(folder / name for name in _TABLES)
        for script in sources.small:
            if script.suffix == ".scp":
                sources += cls.of_names(read_table(script).items(), root)
        return sources

    @classmethod
    def of_table(cls, rspecifier: str | Path, root: Path | None = None) -> "SourceFiles":
        """Collect a script file and the archives that it names, or an archive."""
        source = parse_rspecifier(rspecifier)
        path = Path(source.rxfilename)
        if not source.is_script or not path.is_file():
            return cls.of_names([("", source.rxfilename)], None)
        return cls((path,)) + cls.of_names(read_table(path).items(), root)

    @classmethod
    def of_alignments(cls, ali_dir: Path) -> "SourceFiles":
        """Collect an alignment folder's archives and system, or archives of pdf-ids and what is beside them.

        Raises:
            ValueError: there are no alignments.
        """
        folder = ali_dir if ali_dir.is_dir() else ali_dir.parent
        archives = ali_archives(ali_dir) or pdf_archives(ali_dir)
        names = (*MODEL_NAMES, "num_pdfs", "phones.txt", "tree")
        return cls.of([*archives, *map(system_path, archives), *(folder / name for name in names)])
