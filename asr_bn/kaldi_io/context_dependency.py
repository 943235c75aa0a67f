"""Kaldi's phonetic decision tree, from ``tree``: a window of phones and a pdf class to a pdf-id.

Source: Kaldi ``src/tree/context-dep.cc`` and ``src/tree/event-map.cc``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr_bn.kaldi_io.binary import encode_integer_vector, encode_integers
from asr_bn.kaldi_io.model_stream import ModelStream, open_model

PDF_CLASS = -1
"""The key of a node that asks for the state's pdf class, not for a place of the window."""
_MAX_WIDTH = 16
_MAX_CHILDREN = 1 << 20
_MAX_DEPTH = 400


@dataclass(frozen=True)
class Leaf:
    """The pdf of all that leads here."""

    pdf_id: int


@dataclass(frozen=True)
class Split:
    """A question: is the value of ``key`` among ``values``?"""

    key: int
    values: frozenset[int]
    yes: "Node"
    no: "Node"


@dataclass(frozen=True)
class Table:
    """A child for each value of ``key``, from 0."""

    key: int
    children: tuple["Node", ...]


Node = Leaf | Split | Table | None


@dataclass(frozen=True)
class ContextDependency:
    """Which pdf a phone's state has, by the phones around it.

    Attributes:
        context_width: phones of a window.
        central_position: the place, from 0, of the phone whose state is asked for.
        root: the first question.
    """

    context_width: int
    central_position: int
    root: Node

    @classmethod
    def read(cls, path: Path) -> "ContextDependency":
        """Read a ``tree``: binary or text, gzipped or not.

        Raises:
            OSError: no such file.
            ValueError: not a tree, cut short or corrupt.
        """
        with open_model(path) as stream:
            return cls.from_stream(stream)

    @classmethod
    def from_stream(cls, stream: ModelStream) -> "ContextDependency":
        """Read a tree that begins here; raises as :meth:`read`."""
        stream.expect("ContextDependency")
        width, position = stream.integer(), stream.integer()
        if not 0 <= position < width <= _MAX_WIDTH:
            raise ValueError(
                f"{stream.where}: corrupt: place {position} of a window of {width} phones (at most "
                f"{_MAX_WIDTH})"
            )
        stream.expect("ToPdf")
        root = _read_node(stream, width, 0)
        stream.expect("EndContextDependency")
        return cls(width, position, root)

    def pdf_id(self, window: Sequence[int], pdf_class: int) -> int | None:
        """Return a state's pdf-id (``ContextDependency::Compute``); None where the tree has no answer.

        Args:
            window: ``context_width`` phones, 0 where the utterance has none.
            pdf_class: of the state, from its phone's topology.
        """
        node = self.root
        while not isinstance(node, Leaf):
            if node is None:
                return None
            value = pdf_class if node.key == PDF_CLASS else window[node.key]
            if isinstance(node, Split):
                node = node.yes if value in node.values else node.no
            else:
                node = node.children[value] if 0 <= value < len(node.children) else None
        return node.pdf_id

    def possible_pdfs(self, phone: int, pdf_class: int) -> set[int]:
        """Collect the pdf-ids that a state of a phone has in any context (``GetPdfInfo``)."""
        known = {self.central_position: phone, PDF_CLASS: pdf_class}
        found, waiting = set[int](), [self.root]
        while waiting:
            node = waiting.pop()
            if isinstance(node, Leaf):
                found.add(node.pdf_id)
            elif isinstance(node, Split):
                value = known.get(node.key)
                waiting += [node.yes] if value is None or value in node.values else []
                waiting += [node.no] if value is None or value not in node.values else []
            elif isinstance(node, Table):
                value = known.get(node.key)
                waiting += node.children if value is None else node.children[value : value + 1]
        return found

    def encode(self) -> bytes:
        """Encode the binary form, with its ``\\0B`` mark."""
        head = b"\0BContextDependency " + encode_integers(self.context_width, self.central_position)
        return head + b"ToPdf " + _encode_node(self.root) + b"EndContextDependency "


def _encode_node(node: Node) -> bytes:
    if node is None:
        return b"NULL "
    if isinstance(node, Leaf):
        return b"CE " + encode_integers(node.pdf_id)
    if isinstance(node, Split):
        question = encode_integers(node.key) + encode_integer_vector(sorted(node.values))
        return b"SE " + question + b"{ " + _encode_node(node.yes) + _encode_node(node.no) + b"} "
    size = b"\xfc" + len(node.children).to_bytes(4, "little")
    children = b"".join(map(_encode_node, node.children))
    return b"TE " + encode_integers(node.key) + size + b"( " + children + b") "


def _read_node(stream: ModelStream, width: int, depth: int) -> Node:
    if depth > _MAX_DEPTH:
        raise ValueError(f"{stream.where}: corrupt: a tree deeper than {_MAX_DEPTH} questions")
    token = stream.token()
    if token == "NULL":
        return None
    if token == "CE":
        return Leaf(stream.integer())
    if token not in ("SE", "TE"):
        raise ValueError(f"{stream.where}: expected CE, SE, TE or NULL in the tree, found {token[:40]!r}")
    key = stream.integer()
    if not PDF_CLASS <= key < width:
        raise ValueError(f"{stream.where}: corrupt: a question for place {key} of {width} phones")
    if token == "SE":
        values = frozenset(stream.int_vector())
        stream.expect("{")
        yes, no = _read_node(stream, width, depth + 1), _read_node(stream, width, depth + 1)
        stream.expect("}")
        return Split(key, values, yes, no)
    size = stream.unsigned_integer()
    stream.check_count(size, _MAX_CHILDREN, "answers of a question")
    stream.expect("(")
    children = tuple(_read_node(stream, width, depth + 1) for _ in range(size))
    stream.expect(")")
    return Table(key, children)
