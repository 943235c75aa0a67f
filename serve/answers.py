"""The answer of ``/v1/posteriors`` in its three forms: JSON, npy, Kaldi archive."""

import io
import struct
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from serve.errors import Refusal

JSON = "application/json"
NPY = "application/x-npy"
KALDI_ARK = "application/x-kaldi-ark"
Chunks = list[bytes | memoryview]
MEDIA_TYPES = (JSON, NPY, KALDI_ARK)


def negotiate(accept: str) -> str:
    """The best of `MEDIA_TYPES` for an ``Accept`` header; JSON when the client does not mind.

    Raises:
        Refusal: 406 none of them will do.
    """
    best, best_quality = "", 0.0
    for media_type in MEDIA_TYPES:
        quality = _quality(accept or "*/*", media_type)
        if quality > best_quality:
            best, best_quality = media_type, quality
    if not best:
        raise Refusal(406, f"Accept is {accept!r}, offered are {', '.join(MEDIA_TYPES)}")
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


def top(values: NDArray[np.float32], count: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The ``count`` largest of each row, largest first, equal ones by pdf-id.

    Returns:
        ``pdf_ids`` and ``values``, both ``[num_frames, min(count, num_pdfs)]``.
    """
    count = min(count, values.shape[1])
    if 4 * count < values.shape[1]:
        # argpartition may cut between equal values: the threshold decides which of them count
        threshold = np.partition(values, -count, axis=1)[:, -count]
        kept = np.where(values >= threshold[:, None], values, -np.inf)
    else:
        kept = values
    pdf_ids = np.argsort(-kept, axis=1, kind="stable")[:, :count].astype(np.int32)
    return pdf_ids, np.take_along_axis(values, pdf_ids, axis=1)


def json_bytes(fields: dict[str, Any], values: NDArray[np.float32], top_k: int | None) -> bytes:
    """``fields`` with the matrix, or its ``top_k`` of each frame, as JSON."""
    if top_k is not None:
        pdf_ids, values = top(values, top_k)
        fields = fields | {"pdf_ids": pdf_ids}
    return orjson.dumps(fields | {"values": np.ascontiguousarray(values)}, option=orjson.OPT_SERIALIZE_NUMPY)


def npy_chunks(values: NDArray[np.float32], top_k: int | None) -> Chunks:
    """The matrix ``[num_frames, num_pdfs]``; with ``top_k`` a ``[num_frames, top_k]`` array of records
    ``(pdf_id int32, value float32)``."""
    array: NDArray[Any] = np.ascontiguousarray(values)
    if top_k is not None:
        pdf_ids, best = top(values, top_k)
        array = np.empty(best.shape, dtype=[("pdf_id", "<i4"), ("value", "<f4")])
        array["pdf_id"], array["value"] = pdf_ids, best
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
    return [stream.getvalue(), _bytes_of(array)]


def kaldi_ark_chunks(utt_id: str, values: NDArray[np.float32]) -> Chunks:
    """A binary Kaldi archive of one float matrix (Kaldi's ``matrix/kaldi-matrix.cc``, ``Matrix::Write``)."""
    rows, columns = values.shape
    header = f"{utt_id} ".encode() + b"\0BFM " + struct.pack("<bibi", 4, rows, 4, columns)
    return [header, _bytes_of(np.ascontiguousarray(values, dtype="<f4"))]


def _bytes_of(array: NDArray[Any]) -> memoryview:
    """The memory of ``array``, not a copy: an answer of a long utterance has tens of megabytes."""
    return array.view(np.uint8).reshape(-1).data


def encode(media_type: str, fields: dict[str, Any], values: NDArray[np.float32], top_k: int | None) -> Chunks:
    """The body of an answer.

    Raises:
        Refusal: 406 ``top_k`` of a Kaldi archive, which has no form for it.
    """
    if media_type == JSON:
        return [json_bytes(fields, values, top_k)]
    if media_type == NPY:
        return npy_chunks(values, top_k)
    if top_k is not None:
        raise Refusal(406, f"top_k has no form in {KALDI_ARK}; accept {JSON} or {NPY}")
    return kaldi_ark_chunks(str(fields["utt_id"]), values)
