"""Reading request bodies within bounds: bytes, time, inflated size, parts of a multipart form."""

import asyncio
import re
import zlib
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from serve.refusal import ClientGone, Refusal

MAX_PARTS = 16
_WINDOW_BITS = {"gzip": 31, "deflate": 15}


async def read_body(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body, inflated if ``Content-Encoding`` says so.

    Raises:
        Refusal: 413 larger than ``max_bytes`` (before or after inflation), 408 not received in ``timeout_s``,
            415 an unknown encoding, 400 not what the encoding says.
        ClientGone: the client left before all of it had come.
    """
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(timeout_s):
            body = await _receive(request, max_bytes)
    except TimeoutError as error:
        raise Refusal(
            408, f"the body was not received within {timeout_s:g} s", {"connection": "close"}
        ) from error
    except ClientDisconnect as error:
        raise ClientGone from error
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return body
    return await asyncio.to_thread(inflate, body, encoding, max_bytes)


async def _receive(request: Request, max_bytes: int) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def inflate(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Undo ``gzip`` or ``deflate``, giving up as soon as the result passes ``max_bytes``.

    Raises:
        Refusal: 413, 415 or 400 as for `read_body`.
    """
    if encoding not in _WINDOW_BITS:
        raise Refusal(415, f"content encoding {encoding!r}, expected gzip, deflate or identity")
    inflater = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        plain = inflater.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise Refusal(400, f"the body is not {encoding} data") from error
    if len(plain) > max_bytes:
        raise _too_large(max_bytes)
    if not inflater.eof:
        raise Refusal(400, f"the {encoding} data of the body are cut short")
    return plain


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(413, f"the body is larger than {max_bytes} bytes", {"connection": "close"})


@dataclass
class Part:
    """A part of a multipart form."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)

    def disposition(self, name: str) -> str:
        """A parameter of ``Content-Disposition``, empty where absent."""
        _, options = parse_options_header(self.headers.get("content-disposition", ""))
        return options.get(name.encode(), b"").decode("utf-8", "replace")

    @property
    def stem(self) -> str:
        """The client's file name without folders and suffix: a label, never opened."""
        return PurePosixPath(self.disposition("filename").replace("\\", "/")).stem


def read_multipart(body: bytes, content_type: str) -> Part:
    """The part named ``file`` of a ``multipart/form-data`` body; nothing is written to disk.

    Raises:
        Refusal: 400 malformed, too many parts, or not exactly one part named ``file``.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise Refusal(400, "multipart/form-data without a boundary")
    parts: list[Part] = []
    try:
        parser = MultipartParser(boundary, _collect_into(parts))  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refusal(400, f"malformed multipart body ({error})") from error
    files = [part for part in parts if part.disposition("name") == "file"]
    if len(files) != 1:
        raise Refusal(400, f"{len(files)} parts are named 'file', expected one")
    return files[0]


def _collect_into(parts: list[Part]) -> dict[str, object]:
    name, value = bytearray(), bytearray()

    def begin() -> None:
        if len(parts) == MAX_PARTS:
            raise Refusal(400, f"more than {MAX_PARTS} parts")
        parts.append(Part())

    def header_end() -> None:
        parts[-1].headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        name.clear()
        value.clear()

    return {
        "on_part_begin": begin,
        "on_header_field": lambda data, start, end: name.extend(data[start:end]),
        "on_header_value": lambda data, start, end: value.extend(data[start:end]),
        "on_header_end": header_end,
        "on_part_data": lambda data, start, end: parts[-1].data.extend(data[start:end]),
    }


_NPY_HEADER = re.compile(
    rb"\{'descr': '([^']{1,32})', 'fortran_order': (True|False), 'shape': \(([0-9, ]{0,64})\),? *\}\s*"
)


def read_npy(data: bytes) -> NDArray[np.float32]:
    """A float matrix in NumPy's format (``numpy.lib.format``), as `numpy.save` writes it.

    The header is matched, not evaluated, and no more is allocated than the data hold.

    Raises:
        Refusal: 400 not NumPy's format or another size than its header says, 422 not a matrix of floats.
    """
    header, values = _split_npy(data)
    match = _NPY_HEADER.fullmatch(header)
    if match is None:
        raise Refusal(400, "the header of the features is not one that NumPy writes")
    descr = match[1].decode("latin-1")
    shape = [int(size) for size in match[3].replace(b" ", b"").split(b",") if size]
    if not re.fullmatch("[<>]f[248]", descr) or len(shape) != 2:
        raise Refusal(422, f"features of type {descr!r}, shape {shape}, expected a matrix of floats")
    dtype = np.dtype(descr)
    if len(values) != shape[0] * shape[1] * dtype.itemsize:
        raise Refusal(400, f"the header of the features promises shape {shape}, {len(values)} bytes follow")
    matrix = np.frombuffer(values, dtype).reshape(shape, order="F" if match[2] == b"True" else "C")
    with np.errstate(over="ignore"):  # what overflows float32 is refused as not finite
        return np.ascontiguousarray(matrix, dtype=np.float32)


def _split_npy(data: bytes) -> tuple[bytes, memoryview]:
    """The text of the header, and what follows it."""
    if data[:6] != b"\x93NUMPY" or len(data) < 12 or data[6] not in (1, 2, 3):
        raise Refusal(400, "the features are not in NumPy's npy format")
    start = 10 if data[6] == 1 else 12
    end = start + int.from_bytes(data[8:start], "little")
    return data[start:end], memoryview(data)[end:]
