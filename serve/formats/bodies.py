"""Reading request bodies within bounds: bytes, time, inflated size, parts of a form, npy headers.

Whatever is not read to its end is refused: the rest may be what matters to the client.
"""

import asyncio
import io
import logging
import math
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from fastapi import Request
from numpy.lib import format as npy_format
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from asr_bn.system.arrays import Floats
from serve.limits.refusal import ClientGone, Refusal, shown

MAX_PARTS = 16
MAX_GZIP_MEMBERS = 1024
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_AT_ONCE = 1 << 16
# White space behind a form's last boundary; real clients send a line's end.
_MAX_FORM_TAIL = 64
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
# What it would log of a bad form is said to the client, who could fill the log with it.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


async def read_body(
    request: Request,
    max_bytes: int,
    timeout_s: float,
    in_thread: Callable[..., Awaitable[bytes]] = asyncio.to_thread,
) -> bytes:
    """Read the whole body, inflated if ``Content-Encoding`` says so.

    Args:
        request: whose body to read.
        max_bytes: of it, before and after inflation.
        timeout_s: that receiving it may take.
        in_thread: calls a function with arguments in a thread, so that clients share the threads.

    Raises:
        Refusal: 413 larger than ``max_bytes`` (before or after inflation), 408 not received in ``timeout_s``,
            415 an unknown encoding, 400 not what the encoding says.
        ClientGone: the client left before all of it had come.
    """
    declared = request.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > max_bytes):
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
    encoding = ", ".join(request.headers.getlist("content-encoding")).strip().lower()
    if encoding in ("", "identity"):
        return body
    return await in_thread(inflate, body, encoding, max_bytes)


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
        raise Refusal(415, f"content encoding {shown(encoding)}, expected gzip, deflate or identity")
    chunks: list[bytes] = []
    rest, room = memoryview(body), max_bytes
    for _ in range(MAX_GZIP_MEMBERS if _WINDOW_BITS[encoding] > 15 else 1):
        rest, room = _inflate_member(rest, encoding, room, chunks)
        if room < 0:
            raise _too_large(max_bytes)
        if not rest:
            return b"".join(chunks)
    raise Refusal(400, f"{len(rest)} bytes follow the {encoding} data of the body")


def _inflate_member(
    rest: memoryview, encoding: str, room: int, chunks: list[bytes]
) -> tuple[memoryview, int]:
    """Inflate one stream into ``chunks``: what follows it, and the room left (below 0: too little)."""
    inflater = zlib.decompressobj(_WINDOW_BITS[encoding])
    while not inflater.eof and room >= 0:
        if not rest:
            raise Refusal(400, f"the {encoding} data of the body are cut short")
        step = rest[:_AT_ONCE]
        try:
            chunks.append(inflater.decompress(step, room + 1))
        except zlib.error as error:
            raise Refusal(400, f"the body is not {encoding} data") from error
        room -= len(chunks[-1])
        rest = rest[len(step) - len(inflater.unused_data) :]
    return rest, room


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(413, f"the body is larger than {max_bytes} bytes", {"connection": "close"})


@dataclass
class Part:
    """A part of a multipart form."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)

    def disposition(self, name: str) -> str:
        """Return a parameter of ``Content-Disposition``, empty where absent."""
        options = _options(self.headers.get("content-disposition", ""), "a part's Content-Disposition")
        return options.get(name.encode(), b"").decode("utf-8", "replace")

    @property
    def stem(self) -> str:
        """Return the client's file name without folders and suffix: a label, never opened."""
        return PurePosixPath(self.disposition("filename").replace("\\", "/")).stem

    def text(self) -> str:
        """Return the data as text.

        Raises:
            Refusal: 400 they are not UTF-8.
        """
        try:
            return self.data.decode()
        except UnicodeDecodeError as error:
            raise Refusal(400, f"{self.disposition('name')}: not UTF-8 at byte {error.start}") from error


def _options(header: str, what: str) -> dict[bytes, bytes]:
    """Return the parameters of a header by name.

    Raises:
        Refusal: 400 a name is given twice: of the two values, others may take the other one.
    """
    names = [item.partition("=")[0].strip().lower() for item in _QUOTED.sub("", header).split(";")[1:]]
    for name, count in Counter(filter(None, names)).items():
        if count > 1:
            raise Refusal(400, f"{what} gives {shown(name)} more than once")
    return parse_options_header(header)[1]


def read_multipart(body: bytes, content_type: str) -> Part:
    """Return the part named ``file``, the only one, of a form; raises as `read_form`."""
    return read_form(body, content_type)["file"]


def read_form(body: bytes, content_type: str, *others: str) -> dict[str, Part]:
    """Return the parts of a ``multipart/form-data`` body by name; nothing is written to disk.

    Args:
        others: names of parts that may be there beside ``file``, which has to be.

    Raises:
        Refusal: 400 malformed, not ended by the boundary, in a transfer encoding, or other parts, or one of
            them twice.
    """
    boundary = _options(content_type, "the Content-Type").get(b"boundary", b"")
    if not boundary:
        raise Refusal(400, "multipart/form-data without a boundary")
    parts: list[Part] = []
    try:
        parser = MultipartParser(boundary, _collect_into(parts))  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refusal(400, f"malformed multipart body ({error})") from error
    names = [part.disposition("name") for part in parts]
    for name in names:
        if name not in ("file", *others):
            expected = " or ".join(map(repr, ("file", *others)))
            raise Refusal(400, f"the form has a part named {shown(name)}, expected only {expected}")
        if names.count(name) > 1:
            raise Refusal(400, f"{names.count(name)} parts are named {name!r}, expected one")
    if "file" not in names:
        raise Refusal(400, "0 parts are named 'file', expected one")
    for part in parts:
        coding = part.headers.get("content-transfer-encoding", "binary").strip().lower()
        if coding not in ("7bit", "8bit", "binary"):  # RFC 7578, 4.7: deprecated; these change nothing
            raise Refusal(400, f"a part has the Content-Transfer-Encoding {shown(coding)}, expected binary")
    _check_end(body, boundary, [len(part.data) for part in parts])
    return dict(zip(names, parts, strict=True))


def _check_end(body: bytes, boundary: bytes, data_sizes: list[int]) -> None:
    """Make sure that the data of a form's last part end with its boundary, and that nothing follows.

    Raises:
        Refusal: 400 the boundary is not there, or not the last.
    """
    end = body.find(b"--" + boundary)
    for size in data_sizes:
        end = body.find(b"\r\n\r\n", end) + 4 + size
    closing = b"\r\n--" + boundary + b"--"
    rest = body[end : end + len(closing) + _MAX_FORM_TAIL]
    if not rest.startswith(closing) or rest[len(closing) :].strip() or end + len(rest) < len(body):
        raise Refusal(400, "malformed multipart body (it does not end with its boundary)")


def _collect_into(parts: list[Part]) -> dict[str, object]:
    name, value = bytearray(), bytearray()

    def begin() -> None:
        if len(parts) == MAX_PARTS:
            raise Refusal(400, f"more than {MAX_PARTS} parts")
        parts.append(Part())

    def header_end() -> None:
        header = name.decode("latin-1").lower()
        if header in parts[-1].headers:
            raise Refusal(400, f"a part has two headers {shown(header)}")
        parts[-1].headers[header] = value.decode("latin-1")
        name.clear()
        value.clear()

    return {
        "on_part_begin": begin,
        "on_header_field": lambda data, start, end: name.extend(data[start:end]),
        "on_header_value": lambda data, start, end: value.extend(data[start:end]),
        "on_header_end": header_end,
        "on_part_data": lambda data, start, end: parts[-1].data.extend(data[start:end]),
    }


# The header that numpy writes for a matrix of floats; matched in 1 us, evaluated in 25.
_USUAL_NPY = re.compile(
    rb"\x93NUMPY\x01\0(..)"
    rb"{'descr': '([<>]f[248])', 'fortran_order': (True|False), "
    rb"'shape': \((0|[1-9]\d{0,8}), (0|[1-9]\d{0,8})\), } {0,99}\n",
    re.DOTALL,
)
# numpy says on standard error that it had to try harder with a file of Python 2; nobody has to know.
warnings.filterwarnings("ignore", "Reading `.npy`", UserWarning)
# Nor what Python says of a literal in a header (``1if``), with which a client could fill the log.
warnings.filterwarnings("ignore", category=SyntaxWarning, module="<unknown>")
warnings.filterwarnings("ignore", category=DeprecationWarning, module="<unknown>")


def read_npy(data: bytes) -> Floats:
    """Read a float matrix in NumPy's format, without pickle; nothing may follow it.

    Raises:
        Refusal: 400 not NumPy's format or another size than its header says, 422 not a matrix of floats.
    """
    shape, is_fortran, dtype, start = _npy_header(data)
    if dtype.kind != "f" or dtype.itemsize > 8 or len(shape) != 2:
        told = f"features of type {shown(str(dtype))}, shape {shown(list(shape))}"
        raise Refusal(422, f"{told}, expected a matrix of floats")
    values = memoryview(data)[start:]
    # True is an integer of Python's, and of a header's, but not of a shape.
    are_sizes = all(type(size) is int and 0 <= size < 1 << 31 for size in shape)
    if not are_sizes or len(values) != math.prod(shape) * dtype.itemsize:
        told = f"the header of the features promises shape {shown(list(shape))}"
        raise Refusal(400, f"{told}, {len(values)} bytes follow")
    matrix = np.frombuffer(values, dtype).reshape(shape, order="F" if is_fortran else "C")
    with np.errstate(over="ignore"):  # what overflows float32 is refused as not finite
        return np.ascontiguousarray(matrix, dtype=np.float32)


def _npy_header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether in Fortran's order, type, and where the values begin."""
    usual = _USUAL_NPY.match(data)
    if usual and usual.end() == 10 + int.from_bytes(usual[1], "little"):
        return (int(usual[4]), int(usual[5])), usual[3] == b"True", np.dtype(usual[2].decode()), usual.end()
    stream = io.BytesIO(data)
    try:
        version = npy_format.read_magic(stream)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(version)
        # Version 3 is 2 with names of fields in UTF-8, of which a matrix has none.
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        return *read(stream), stream.tell()
    except Exception as error:  # of many kinds, as the header is a Python literal
        raise Refusal(400, "the features are not in NumPy's npy format") from error
