"""Tensors of the Open Inference Protocol, in JSON or as binary data behind it.

Source: kserve/open-inference-protocol ``inference_rest.md``; Triton's ``extension_binary_data.md``.
"""

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypedDict

import numpy as np
import orjson
from numpy.typing import NDArray

from serve.formats.answers import Encoded, in_pieces, joined, json_items
from serve.formats.json_objects import MAX_CHARACTERS, Parameters, json_object, parse_json, read_parameters
from serve.limits.refusal import Refusal, shown

# The types that tensors of an acoustic model have; little-endian on the wire.
DATATYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "INT32": np.dtype("<i4")}

# How JSON numbers are packed as each, and which Python types may be among them (True is no number).
_PACKED: dict[str, tuple[str, frozenset[type]]] = {
    "FP32": ("f", frozenset({int, float})),
    "INT32": ("i", frozenset({int})),
}
MAX_TENSORS = 16
Array = NDArray[np.generic]


class TensorMetadata(TypedDict):
    """A tensor in a model's metadata."""

    name: str
    datatype: str
    shape: list[int]


class WantedOutput(TypedDict):
    """An output that a request asks for."""

    name: str
    parameters: Parameters


class PackedRequest(TypedDict):
    """The head of an `InferRequest` on its way between processes; of each input name, dtype and shape."""

    id: str | None
    parameters: Parameters
    outputs: list[WantedOutput] | None
    inputs: list[tuple[str, str, tuple[int, ...]]]


@dataclass(frozen=True)
class TensorSpec:
    """Name, datatype and shape (-1: any size) of an input or output."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def describe(self) -> TensorMetadata:
        """Describe the tensor as a model's metadata do."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True)
class InferRequest:
    """An ``infer`` call: its id, parameters, inputs by name, and the outputs asked for (none: all).

    ``parameters`` are those that `serve.formats.json_objects` knows, of the types there.
    """

    id: str | None
    parameters: Parameters
    inputs: dict[str, Array]
    outputs: list[WantedOutput] | None

    def wants_binary(self, output: str) -> bool:
        """Say whether ``output`` is to be answered as binary data; its own parameter wins."""
        default = bool(self.parameters.get("binary_data_output", False))
        for asked in self.outputs or []:
            if asked["name"] == output:
                return bool(asked["parameters"].get("binary_data", default))
        return default


def read_request(body: bytes, json_size: str | None, specs: list[TensorSpec]) -> InferRequest:
    """Read an ``infer`` request.

    Args:
        body: JSON, then the binary tensors in the order of the inputs.
        json_size: the ``Inference-Header-Content-Length``; None: all of the body is JSON.
        specs: the model's inputs.

    Raises:
        Refusal: 400 malformed, or not what ``specs`` ask for.
    """
    size, whole = json_bytes(body, json_size), memoryview(body)
    call = json_object(parse_json(whole[:size]), "the request")
    request_id = call.get("id")
    if request_id is not None and not (isinstance(request_id, str) and len(request_id) <= MAX_CHARACTERS):
        raise Refusal(400, f"id: expected a string of up to {MAX_CHARACTERS} characters")
    outputs, parameters = call.get("outputs"), read_parameters(call, "parameters")
    by_name = {spec.name: spec for spec in specs}
    inputs = _read_inputs(_tensors(call.get("inputs"), "inputs"), whole[size:], by_name)
    return InferRequest(request_id, parameters, inputs, None if outputs is None else _outputs(outputs))


def pack_request(call: InferRequest) -> tuple[PackedRequest, bytes]:
    """Pack ``call`` for another process: a JSON object, and the tensors one after the other."""
    head: PackedRequest = {
        "id": call.id,
        "parameters": call.parameters,
        "outputs": call.outputs,
        "inputs": [(name, values.dtype.str, values.shape) for name, values in call.inputs.items()],
    }
    return head, b"".join(values.tobytes() for values in call.inputs.values())


def unpack_request(head: PackedRequest, payload: bytes) -> InferRequest:
    """Unpack what `pack_request` packed."""
    inputs: dict[str, Array] = {}
    offset = 0
    for name, dtype, shape in head["inputs"]:
        inputs[name] = np.frombuffer(payload, dtype, math.prod(shape), offset).reshape(shape)
        offset += inputs[name].nbytes
    return InferRequest(head["id"], head["parameters"], inputs, head["outputs"])


def json_bytes(body: bytes, given: str | None) -> int:
    """Return how many bytes of an ``infer`` request are JSON: as its header says, or all of it.

    Raises:
        Refusal: 400 the header is no size, or more than there is.
    """
    if given is None:
        return len(body)
    if not given.isascii() or not given.isdigit() or len(given) > 18 or int(given) > len(body):
        raise Refusal(400, f"Inference-Header-Content-Length is {given!r}, the body has {len(body)} bytes")
    return int(given)


def _tensors(value: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > MAX_TENSORS:
        raise Refusal(400, f"{what}: expected a list of up to {MAX_TENSORS} objects")
    for item in value:
        name = json_object(item, what).get("name")
        if not isinstance(name, str) or len(name) > MAX_CHARACTERS:
            raise Refusal(400, f"{what}: each needs a name of up to {MAX_CHARACTERS} characters")
    return value


def _outputs(value: Any) -> list[WantedOutput]:
    items = _tensors(value, "outputs")
    if len({item["name"] for item in items}) < len(items):
        raise Refusal(400, "outputs: a name is there twice, expected each once")
    return [
        {"name": item["name"], "parameters": read_parameters(item, f"output {item['name']!r}")}
        for item in items
    ]


def _read_inputs(
    inputs: list[dict[str, Any]], binary: memoryview, specs: dict[str, TensorSpec]
) -> dict[str, Array]:
    found: dict[str, Array] = {}
    offset = 0
    for tensor in inputs:
        name = tensor["name"]
        if name not in specs or name in found:
            raise Refusal(400, f"unexpected inference input {name!r}, expected {', '.join(specs)}, once each")
        shape = _shape(tensor, specs[name])
        size = _binary_size(tensor)
        if size is None:
            found[name] = _from_json(tensor, specs[name], shape)
            continue
        found[name] = _from_binary(binary[offset : offset + size], size, specs[name], shape)
        offset += size
    if offset < len(binary):
        raise Refusal(400, f"unexpected additional input data: {len(binary) - offset} bytes")
    if missing := specs.keys() - found.keys():
        raise Refusal(400, f"expected {len(specs)} inputs, {', '.join(sorted(missing))} missing")
    return found


def _bad(spec: TensorSpec, why: str) -> Refusal:
    return Refusal(400, f"input {spec.name!r}: {why}")


def _shape(tensor: dict[str, Any], spec: TensorSpec) -> tuple[int, ...]:
    if tensor.get("datatype") != spec.datatype:
        raise _bad(spec, f"datatype {shown(tensor.get('datatype'))}, expected {spec.datatype!r}")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or len(shape) != len(spec.shape):
        raise _bad(spec, f"unexpected shape {shown(shape)}, expected {list(spec.shape)}")
    if not all(type(size) is int and 0 <= size < 1 << 31 for size in shape):
        raise _bad(spec, f"shape {shown(shape)}, expected a list of sizes")
    if not all(want in (-1, got) for want, got in zip(spec.shape, shape, strict=True)):
        raise _bad(spec, f"unexpected shape {shape}, expected {list(spec.shape)}")
    return tuple(shape)


def _binary_size(tensor: dict[str, Any]) -> int | None:
    what = f"input {tensor['name']!r}"
    parameters = read_parameters(tensor, what)
    if "shared_memory_region" in parameters:
        raise Refusal(400, "shared memory is not supported")
    if "binary_data_size" in parameters and "data" in tensor:
        raise Refusal(400, f"{what}: has both data and binary_data_size")
    size = parameters.get("binary_data_size")
    return None if size is None else int(size)


def _from_binary(data: memoryview, size: int, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    dtype = DATATYPES[spec.datatype]
    expected = math.prod(shape) * dtype.itemsize
    if size != expected or len(data) != size:
        raise Refusal(
            400, f"unexpected size for input {spec.name!r}: {len(data)} of {size} bytes, expected {expected}"
        )
    return np.frombuffer(bytes(data), dtype).reshape(shape)  # copied, to lie on a word's boundary


def _from_json(tensor: dict[str, Any], spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    data = tensor.get("data")
    if not isinstance(data, list):
        raise _bad(spec, "data missing, expected a list or binary_data_size")
    values = _flat(data, shape, spec)
    code, types = _PACKED[spec.datatype]
    if not types.issuperset(map(type, values)):
        raise _bad(spec, f"data hold something that is no {spec.datatype} number")
    try:
        packed = struct.pack(f"<{len(values)}{code}", *values)
    except (struct.error, OverflowError) as error:
        raise _bad(spec, f"a value does not fit {spec.datatype}") from error
    return np.frombuffer(packed, DATATYPES[spec.datatype]).reshape(shape)


def _flat(data: list[Any], shape: tuple[int, ...], spec: TensorSpec) -> list[Any]:
    """``data`` in one list, from a list or from lists in lists as ``shape`` says.

    Raises:
        Refusal: 400 more or fewer values, or uneven lists.
    """
    if not data or type(data[0]) is not list:
        if len(data) != math.prod(shape):
            raise _bad(spec, f"{len(data)} values of data, expected shape {list(shape)}")
        return data
    level, sizes = [data], list(shape)
    for size in sizes:
        if any(type(item) is not list or len(item) != size for item in level):
            raise _bad(spec, f"data nested unevenly, expected shape {sizes}")
        level = list(chain.from_iterable(level))
    return level


def write_response(
    head: dict[str, str], outputs: Sequence[tuple[TensorSpec, Array]], as_binary: bool
) -> tuple[Encoded, int | None]:
    """Write an ``infer`` response.

    Args:
        head: ``model_name``, ``model_version`` and, if the request had one, ``id``.
        outputs: name and datatype, and the values in any shape, of each.
        as_binary: whether the values follow the JSON as bytes.

    Returns:
        The body, JSON in pieces made as they are taken; and the size of its JSON if binary data follow.
    """
    tensors: list[dict[str, object]] = [
        {**spec.describe(), "shape": list(values.shape)} for spec, values in outputs
    ]
    arrays = [np.ascontiguousarray(values, dtype=DATATYPES[spec.datatype]) for spec, values in outputs]
    if as_binary:
        for tensor, data in zip(tensors, arrays, strict=True):
            tensor["parameters"] = {"binary_data_size": data.nbytes}
        text = orjson.dumps(head | {"outputs": tensors})
        return Encoded([text, *(data.view(np.uint8).reshape(-1).data for data in arrays)]), len(text)
    texts: list[Iterable[bytes]] = [[orjson.dumps(head)[:-1], b',"outputs":[']]
    for number, (tensor, data) in enumerate(zip(tensors, arrays, strict=True)):
        before = b"," * (number > 0) + orjson.dumps(tensor)[:-1] + b',"data":['
        texts += [[before], json_items(data.ravel()), [b"]}"]]
    return in_pieces(joined(chain(*texts, [b"]}"]))), None
