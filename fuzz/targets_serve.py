"""The parsers of the server's request bodies."""

import math
from collections.abc import Callable
from typing import TypeVar

from fuzz.targets import Target
from serve.formats.bodies import inflate, read_form, read_npy
from serve.formats.tensors import TensorSpec, pack_request, read_request, unpack_request
from serve.limits.refusal import Refusal

T = TypeVar("T")
_MOST_BYTES = 1 << 20
_SPECS = [TensorSpec("features", "FP32", (-1, -1, 3)), TensorSpec("lengths", "INT32", (-1,))]


def _read(function: Callable[..., T], *arguments: object) -> T | None:
    """What ``function`` reads, None where it refuses as documented: never with a status above 499."""
    try:
        return function(*arguments)
    except Refusal as refusal:
        assert 400 <= refusal.status < 500, refusal.status
        return None


def json_infer(data: bytes) -> None:
    """Read a v2 body that is all JSON, and hand it on as from process to process."""
    _infer(data, None)


def binary_infer(data: bytes) -> None:
    """Read a v2 body with binary tensors: the first line has the size of its JSON, as the header does."""
    size, _, body = data.partition(b"\n")
    _infer(body, size.decode("latin-1"))


def _infer(body: bytes, json_size: str | None) -> None:
    call = _read(read_request, body, json_size, _SPECS)
    if call is None:
        return
    assert call.inputs.keys() == {"features", "lengths"}
    again = unpack_request(*pack_request(call))
    for name, values in call.inputs.items():
        assert values.nbytes <= 4 * len(body)
        assert again.inputs[name].tobytes() == values.tobytes()


def form(data: bytes) -> None:
    """Read a form whose boundary is ``b``, with a text or without."""
    parts = _read(read_form, data, "multipart/form-data; boundary=b", "text") or {}
    assert all(part.data in data for part in parts.values())
    if "text" in parts:
        _read(parts["text"].text)


def npy(data: bytes) -> None:
    """Read features in NumPy's format: no more of them than bytes came."""
    matrix = _read(read_npy, data)
    assert matrix is None or math.prod(matrix.shape) * 2 <= len(data)


def gzip_body(data: bytes) -> None:
    """Read a compressed body."""
    plain = _read(inflate, data, "gzip", _MOST_BYTES)
    assert plain is None or len(plain) <= _MOST_BYTES


TARGETS: dict[str, Target] = {
    "json_infer": json_infer,
    "binary_infer": binary_infer,
    "form": form,
    "npy": npy,
    "gzip_body": gzip_body,
}
