"""The answer of ``/v1/posteriors`` in its three forms: JSON, npy, Kaldi archive."""

import io
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from asr_bn.kaldi_io.matrix import encode_header
from asr_bn.system.arrays import Floats, IntVector
from serve.limits.refusal import Refusal

JSON = "application/json"
NPY = "application/x-npy"
KALDI_ARK = "application/x-kaldi-ark"
Chunks = list[bytes | memoryview]
Compression = Literal["gzip", "deflate"]
MEDIA_TYPES = (JSON, NPY, KALDI_ARK)

_PIECE_BYTES = 1 << 20
_VALUES_AT_ONCE = 1 << 14
_SORTED_AT_ONCE = 1 << 20
# So many of the largest values of a frame are looked for one by one.
_FEW = 32


@dataclass(frozen=True)
class Encoded:
    """A body: its chunks, and what follows them, made as it is taken; None where nothing does."""

    chunks: Chunks
    rest: Iterator[bytes] | None = None


def in_pieces(pieces: Iterator[bytes]) -> Encoded:
    """Return a body of ``pieces``: whole if there is one, else two of them and the rest as it is taken."""
    first: Chunks = list(islice(pieces, 2))
    return Encoded(first, pieces if len(first) == 2 else None)


def joined(texts: Iterable[bytes]) -> Iterator[bytes]:
    """Join small texts to pieces of a mebibyte or more."""
    held, size = [], 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= _PIECE_BYTES:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


def compressed(body: Encoded, encoding: Compression) -> Encoded:
    """Return ``body`` compressed for HTTP's ``Content-Encoding``, a piece at a time."""
    packer = zlib.compressobj(1, wbits=zlib.MAX_WBITS | (16 if encoding == "gzip" else 0))

    def packed() -> Iterator[bytes]:
        yield from (packer.compress(piece) for piece in chain(body.chunks, body.rest or ()))
        yield packer.flush()

    return in_pieces(joined(packed()))


def negotiate(accept: str, offered: Sequence[str] = MEDIA_TYPES) -> str:
    """Choose the best of what is offered for an ``Accept`` header; the first if the client accepts any.

    Raises:
        Refusal: 406 none of them will do.
    """
    best, best_quality = "", 0.0
    for media_type in offered:
        quality = _quality(accept or "*/*", media_type)
        if quality > best_quality:
            best, best_quality = media_type, quality
    if not best:
        raise Refusal(406, f"Accept is {accept!r}, offered: {', '.join(offered)}")
    return best


def _quality(accept: str, media_type: str) -> float:
    """The ``q`` of the most specific range of ``accept`` that covers ``media_type``."""
    ranges = {media_type: 2, media_type.split("/")[0] + "/*": 1, "*/*": 0}
    found = (-1, 0.0)
    for item in accept.split(","):
        name, *parameters = (text.strip().lower() for text in item.split(";"))
        if name in ranges:
            found = max(found, (ranges[name], _q(parameters)))
    return found[1]


def _q(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                return 0.0
    return 1.0


def top(values: Floats, count: int) -> tuple[IntVector, Floats]:
    """Find the ``count`` largest of each row, largest first, equal ones by pdf-id.

    Returns:
        ``pdf_ids`` and ``values``, both ``[num_frames, min(count, num_pdfs)]``.
    """
    count = min(count, values.shape[1])
    best = np.empty((len(values), count), values.dtype)
    pdf_ids = np.empty(best.shape, np.int32)
    # Some frames at a time: sorting takes several times the memory of what is sorted.
    step = max(1, _SORTED_AT_ONCE // values.shape[1])
    for start in range(0, len(values), step):
        some = slice(start, start + step)
        pdf_ids[some], best[some] = _top(values[some], count)
    return pdf_ids, best


def _top(values: Floats, count: int) -> tuple[IntVector, Floats]:
    if count <= min(_FEW, values.shape[1] // 4) and np.isfinite(values).all():
        return _few(values, count)
    if 4 * count < values.shape[1]:
        # argpartition may cut between equal values: the threshold decides which of them count
        threshold = np.partition(values, -count, axis=1)[:, -count]
        kept = np.where(values >= threshold[:, None], values, -np.inf)
    else:
        kept = values
    pdf_ids = np.argsort(-kept, axis=1, kind="stable")[:, :count].astype(np.int32)
    return pdf_ids, np.take_along_axis(values, pdf_ids, axis=1)


def _few(values: Floats, count: int) -> tuple[IntVector, Floats]:
    """One maximum after the other, of which NumPy takes the first: ten times as fast as sorting."""
    rest, frames = values.copy(), np.arange(len(values))
    pdf_ids = np.empty((len(values), count), np.int32)
    for rank in range(count):
        pdf_ids[:, rank] = rest.argmax(axis=1)
        rest[frames, pdf_ids[:, rank]] = -np.inf
    return pdf_ids, np.take_along_axis(values, pdf_ids, axis=1)


def json_pieces(
    fields: dict[str, object], values: Floats, top_k: int | None, names: Sequence[str] | None = None
) -> Iterator[bytes]:
    """Write ``fields`` and the matrix, or its ``top_k`` of each frame, as JSON, a piece at a time.

    The text of an answer may be four times as large as its values: it is never in memory as a whole.
    With ``names`` of the columns the best are named, otherwise they are pdf-ids.
    """
    lists: dict[str, Iterable[bytes]] = {"values": json_items(values)}
    if top_k is not None:
        columns, best = top(values, top_k)
        named = {"pdf_ids": json_items(columns)} if names is None else {"phones": _json_names(columns, names)}
        lists = {**named, "values": json_items(best)}
    texts: list[Iterable[bytes]] = [[orjson.dumps(fields)[:-1]]]
    for name, items in lists.items():
        texts += [[b',"%s":[' % name.encode()], items, [b"]"]]
    return joined(chain(*texts, [b"}"]))


def _json_names(columns: IntVector, names: Sequence[str]) -> Iterator[bytes]:
    """Yield the names of columns ``[num_frames, k]``, as :func:`json_items` yields numbers."""
    step = max(1, _VALUES_AT_ONCE // max(1, columns.shape[1]))
    for start in range(0, len(columns), step):
        some = [[names[column] for column in row] for row in columns[start : start + step].tolist()]
        text = orjson.dumps(some)[1:-1]
        yield b"," + text if start else text


def json_items(array: NDArray[np.generic]) -> Iterator[bytes]:
    """Yield the items of an array along its first axis, as JSON, some at a time, with commas between them.

    Each call of orjson holds the interpreter's lock from beginning to end, and the event loop needs it too.
    """
    step = max(1, _VALUES_AT_ONCE // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), step):
        some = np.ascontiguousarray(array[start : start + step])
        text = orjson.dumps(some, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
        yield b"," + text if start else text


def npy_chunks(values: Floats, top_k: int | None, column: str = "pdf_id") -> Chunks:
    """Write the matrix ``[num_frames, num_pdfs]`` in NumPy's format.

    With ``top_k``: ``[num_frames, top_k]`` records ``(pdf_id int32, value float32)``; ``column`` is what
    the first field is called.
    """
    array: NDArray[np.generic] = np.ascontiguousarray(values)
    if top_k is not None:
        columns, best = top(values, top_k)
        records = np.empty(best.shape, dtype=[(column, "<i4"), ("value", "<f4")])
        records[column], records["value"] = columns, best
        array = records
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
    return [stream.getvalue(), _bytes_of(array)]


def kaldi_ark_chunks(utt_id: str, values: Floats) -> Chunks:
    """Write a binary Kaldi archive of one float matrix (``Matrix::Write`` of ``kaldi-matrix.cc``)."""
    header = f"{utt_id} ".encode() + encode_header(*values.shape)
    return [header, _bytes_of(np.ascontiguousarray(values, dtype="<f4"))]


def _bytes_of(array: NDArray[np.generic]) -> memoryview:
    """The memory of ``array``, not a copy: an answer of a long utterance has tens of megabytes."""
    return array.view(np.uint8).reshape(-1).data


def encode(
    media_type: str,
    fields: dict[str, object],
    values: Floats,
    top_k: int | None,
    names: Sequence[str] | None = None,
) -> Encoded:
    """Write the body of an answer; ``names`` are those of the columns where these are phones.

    Raises:
        Refusal: 406 ``top_k`` of a Kaldi archive, which has no form for it.
    """
    if media_type == JSON:
        return in_pieces(json_pieces(fields, values, top_k, names))
    if media_type == NPY:
        return Encoded(npy_chunks(values, top_k, "pdf_id" if names is None else "phone"))
    if top_k is not None:
        raise Refusal(406, f"top_k has no form in {KALDI_ARK}; accept {JSON} or {NPY}")
    return Encoded(kaldi_ark_chunks(str(fields["utt_id"]), values))
