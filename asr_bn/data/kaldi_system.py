"""The Kaldi system that a model was trained for, small enough to go with the model.

It is collected from a Kaldi alignment folder as its alignments are read.  ``asr-bn alignments`` writes it
beside an archive of pdf-ids, since these alone do not tell what a pdf means.
"""

import base64
import gzip
import io
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from asr_bn.data.alignments import TidCounter, ali_archives, find_model, pdf_archives, read_pdf_ids
from asr_bn.data.phones import PhoneTable
from asr_bn.kaldi_io.context_dependency import ContextDependency
from asr_bn.kaldi_io.model_stream import ModelStream
from asr_bn.kaldi_io.phone_table import read_phone_names
from asr_bn.kaldi_io.plain_text import split_words
from asr_bn.kaldi_io.rxfilename import open_input
from asr_bn.kaldi_io.transition_model import TransitionModel, read_model_bytes
from asr_bn.system.arrays import IntVector
from asr_bn.system.files import read_json, write_bytes, write_text
from asr_bn.system.notes import print_note

# Unpacked, of the transition model or the tree: WSJ's have less than a megabyte.
MAX_BYTES = 16 << 20
_SUFFIX = ".system.json"
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class KaldiSystem:
    """What alignments are made of, without the GMM.

    Checkpoints and exported models hold it as :meth:`to_dict` returns it.

    Attributes:
        phone_names: ``phones.txt`` by number, with ``<eps>`` and disambiguation symbols; empty without one.
        transition_model_bytes: the head of ``final.mdl``, as a file that Kaldi reads.
        tree_bytes: the file ``tree``; None where the alignment folder has none.
        tid_counts: frames of each transition-id in the training alignments, ``[num_transition_ids + 1]``;
            entry 0 is unused.
    """

    phone_names: dict[int, str]
    transition_model_bytes: bytes
    tree_bytes: bytes | None
    tid_counts: list[int]

    @classmethod
    def collect(cls, ali_dir: Path, tid_counts: list[int]) -> "KaldiSystem":
        """Read ``final.mdl``, and where they are there ``tree`` and ``phones.txt``, of an alignment folder.

        Raises:
            ValueError: one of them is damaged, or larger than ``MAX_BYTES``.
        """
        return cls.read(find_model(ali_dir), ali_dir / "phones.txt", ali_dir / "tree", tid_counts)

    @classmethod
    def read(
        cls, mdl: Path, phones_txt: Path, tree: Path, tid_counts: list[int] | None = None
    ) -> "KaldiSystem":
        """Read the files of a system; ``phones_txt`` and ``tree`` may be missing.

        Args:
            tid_counts: None where the training alignments are not known: no frames.

        Raises:
            OSError: no such transition model.
            ValueError: a file is damaged, or larger than ``MAX_BYTES``.
        """
        system = cls(
            read_phone_names(phones_txt) if phones_txt.is_file() else {},
            read_model_bytes(mdl),
            _read_unpacked(tree) if tree.is_file() else None,
            tid_counts or [0] * (TransitionModel.read(mdl).num_transition_ids + 1),
        )
        for path, data in ((mdl, system.transition_model_bytes), (tree, system.tree_bytes)):
            if len(data or b"") > MAX_BYTES:
                raise ValueError(f"{path}: {len(data or b'')} bytes, expected at most {MAX_BYTES}")
        if tree.is_file():
            ContextDependency.read(tree)
        return system

    @cached_property
    def phones(self) -> PhoneTable:
        """The phones that share each pdf.

        Raises:
            ValueError: the transition model is damaged, or has another number of transition-ids than counts.
        """
        return PhoneTable.of(self.transition_model(), self.tid_counts, self.phone_names)

    def transition_model(self) -> TransitionModel:
        """Parse the transition model: transition-ids to pdfs, phones and states.

        Raises:
            ValueError: it is damaged.
        """
        return TransitionModel.from_stream(self.open_transition_model())

    def open_transition_model(self) -> ModelStream:
        """Begin to read the transition model, as for :meth:`asr_bn.decoding.hmms.Hmms.from_stream`."""
        return ModelStream.begin(io.BytesIO(self.transition_model_bytes), "the model's transition model")

    def tree(self) -> ContextDependency | None:
        """Parse the decision tree; None where the system has none, as a monophone one of ours.

        Raises:
            ValueError: it is damaged.
        """
        if self.tree_bytes is None:
            return None
        stream = ModelStream.begin(io.BytesIO(self.tree_bytes), "the model's tree")
        return ContextDependency.from_stream(stream)

    def write(self, folder: Path) -> None:
        """Write ``final.mdl`` (without a GMM), and ``tree`` and ``phones.txt`` where the system has them."""
        write_bytes(folder / "final.mdl", self.transition_model_bytes)
        if self.tree_bytes is not None:
            write_bytes(folder / "tree", self.tree_bytes)
        if self.phone_names:
            lines = (f"{name} {number}\n" for number, name in self.phone_names.items())
            write_text(folder / "phones.txt", "".join(lines))

    def to_dict(self) -> dict[str, object]:
        """Return plain values, as JSON has them."""
        return {
            "phone_names": {str(number): name for number, name in self.phone_names.items()},
            "transition_model": _pack(self.transition_model_bytes),
            "tree": None if self.tree_bytes is None else _pack(self.tree_bytes),
            "tid_counts": self.tid_counts,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "KaldiSystem":
        """Read what :meth:`to_dict` returned; the transition model and the tree are unpacked but not parsed.

        Raises:
            ValueError: a value is missing or of another type, or unpacks to more than ``MAX_BYTES``.
        """
        names, tree, counts = values.get("phone_names"), values.get("tree"), values.get("tid_counts")
        if not isinstance(names, dict) or not all(_is_name(*item) for item in names.items()):
            raise ValueError("the Kaldi system's phone_names: expected a name for each number")
        if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError("the Kaldi system's tid_counts: expected a list of counts")
        return cls(
            {int(number): name for number, name in names.items()},
            _unpack("transition_model", values.get("transition_model")),
            None if tree is None else _unpack("tree", tree),
            counts,
        )


def read_aligned(ali_dir: Path) -> tuple[dict[str, IntVector], KaldiSystem | None]:
    """Read the pdf-ids of every utterance, and the system that they are of.

    Returns:
        As :func:`asr_bn.data.alignments.read_pdf_ids`, whose errors this raises; and the system, with the
        frames of all utterances counted.  None for archives of pdf-ids that ``asr-bn alignments`` did not
        write.

    Raises:
        ValueError: the system's files are damaged.
    """
    counter = TidCounter()
    pdf_ids = read_pdf_ids(ali_dir, counter)
    if ali_archives(ali_dir):
        return pdf_ids, KaldiSystem.collect(ali_dir, counter.counts.tolist())
    return pdf_ids, _read_beside(pdf_archives(ali_dir))


def require_system(ali_dir: Path) -> KaldiSystem:
    """Read the system of alignments, as :func:`read_aligned`, which has to be there.

    Raises:
        ValueError: they are pdf-ids alone.
    """
    system = read_aligned(ali_dir)[1]
    if system is None:
        raise ValueError(f"{ali_dir}: pdf-ids only, expected a Kaldi alignment folder (final.mdl, ali.*.gz)")
    return system


def system_path(archive: Path) -> Path:
    """Return where the system of an archive of pdf-ids is written: ``pdf.ark.system.json`` beside it."""
    return archive.with_name(archive.name + _SUFFIX)


def write_system(path: Path, system: KaldiSystem) -> None:
    """Write a system as JSON."""
    write_text(path, json.dumps(system.to_dict()) + "\n")


def read_system(path: Path) -> KaldiSystem:
    """Read what :func:`write_system` wrote.

    Raises:
        OSError: no such file.
        ValueError: it is something else, or damaged.
    """
    values = read_json(path, dict)
    try:
        return KaldiSystem.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_beside(archives: list[Path]) -> KaldiSystem | None:
    """Read the system of archives of pdf-ids, with the frames of them all."""
    paths = [system_path(archive) for archive in archives]
    if not all(path.is_file() for path in paths):
        return None
    first, *others = map(read_system, paths)
    for path, other in zip(paths[1:], others, strict=True):
        if other.transition_model_bytes != first.transition_model_bytes:
            raise ValueError(f"{path}: has another transition model than {paths[0]}")
    counts = zip(*(system.tid_counts for system in (first, *others)), strict=True)
    return replace(first, tid_counts=[sum(column) for column in counts])


def _read_unpacked(path: Path) -> bytes:
    with open_input(str(path)) as stream:
        return stream.read(MAX_BYTES + 1)


def _pack(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, mtime=0)).decode()


def _unpack(name: str, text: object) -> bytes:
    try:
        packed = base64.b64decode(text if isinstance(text, str) else "?", validate=True)
        unpacking = zlib.decompressobj(wbits=31)
        data = unpacking.decompress(packed, MAX_BYTES)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"the Kaldi system's {name}: expected a gzip file in base64 ({error})") from error
    if not unpacking.eof:
        raise ValueError(f"the Kaldi system's {name}: cut short, or unpacks to more than {MAX_BYTES} bytes")
    return data


def _is_name(number: object, name: object) -> bool:
    is_number = isinstance(number, str) and _NUMBER.fullmatch(number) is not None
    return is_number and isinstance(name, str) and split_words(name) == [name]


def note_unknown_phones(ali_dir: Path) -> None:
    """Say that a model trained on ``ali_dir`` will not know its phones, and what to do about it."""
    print_note(
        f"{ali_dir}: pdf-ids only, so that the model will not know its phones; train on the Kaldi "
        "alignment folder itself, or on what 'asr-bn alignments' makes of it",
    )
