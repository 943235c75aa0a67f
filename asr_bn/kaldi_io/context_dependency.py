"""Kaldi's phonetic decision tree, from ``tree``: a window of phones and a pdf class to a pdf-id.

Source: Kaldi ``src/tree/context-dep.cc`` and ``src/tree/event-map.cc``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr_bn.kaldi_io.model_stream import ModelStream, open_model

# The key of a node that asks for the state's pdf class, not for a place of the window.
_PDF_CLASS = -1
_MAX_WIDTH = 16
_MAX_CHILDREN = 1 << 20
_MAX_DEPTH = 400


@dataclass(frozen=True)
class _Leaf:
    pdf_id: int


@dataclass(frozen=True)
class _Split:
    key: int
    values: frozenset[int]
    yes: "_Node"
    no: "_Node"


@dataclass(frozen=True)
class _Table:
    key: int
    children: tuple["_Node", ...]


_Node = _Leaf | _Split | _Table | None


@dataclass(frozen=True)
class ContextDependency:
    """Which pdf a phone's state has, by the phones around it.

    Attributes:
        context_width: phones of a window.
        central_position: the place, from 0, of the phone whose state is asked for.
    """

    context_width: int
    central_position: int
    _root: _Node

    @classmethod
    def read(cls, path: Path) -> "ContextDependency":
        """Read a ``tree``: binary or text, gzipped or not.

        Raises:
            OSError: no such file.
            ValueError: not a tree, cut short or corrupt.
        """
        with open_model(path) as stream:
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
        node = self._root
        while not isinstance(node, _Leaf):
            if node is None:
                return None
            value = pdf_class if node.key == _PDF_CLASS else window[node.key]
            if isinstance(node, _Split):
                node = node.yes if value in node.values else node.no
            else:
                node = node.children[value] if 0 <= value < len(node.children) else None
        return node.pdf_id


def _read_node(stream: ModelStream, width: int, depth: int) -> _Node:
    if depth > _MAX_DEPTH:
        raise ValueError(f"{stream.where}: corrupt: a tree deeper than {_MAX_DEPTH} questions")
    token = stream.token()
    if token == "NULL":
        return None
    if token == "CE":
        return _Leaf(stream.integer())
    if token not in ("SE", "TE"):
        raise ValueError(f"{stream.where}: expected CE, SE, TE or NULL in the tree, found {token[:40]!r}")
    key = stream.integer()
    if not _PDF_CLASS <= key < width:
        raise ValueError(f"{stream.where}: corrupt: a question for place {key} of {width} phones")
    if token == "SE":
        values = frozenset(stream.int_vector())
        stream.expect("{")
        yes, no = _read_node(stream, width, depth + 1), _read_node(stream, width, depth + 1)
        stream.expect("}")
        return _Split(key, values, yes, no)
    size = stream.unsigned_integer()
    stream.check_count(size, _MAX_CHILDREN, "answers of a question")
    stream.expect("(")
    children = tuple(_read_node(stream, width, depth + 1) for _ in range(size))
    stream.expect(")")
    return _Table(key, children)
