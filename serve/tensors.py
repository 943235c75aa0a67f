"""Tensors of the Open Inference Protocol, in JSON or as binary data behind it.

Source: kserve/open-inference-protocol ``inference_rest.md``; Triton's ``extension_binary_data.md``.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from serve.answers import Chunks, json_items
from serve.refusal import Refusal

# The types that tensors of an acoustic model have; little-endian on the wire.
DATATYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "INT32": np.dtype("<i4")}

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """Name, datatype and shape (-1: any size) of an input or output."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def describe(self) -> dict[str, Any]:
        """As in a model's metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True)
class InferRequest:
    """An ``infer`` call: its id, parameters, inputs by name, and the outputs asked for (none: all)."""

    id: str | None
    parameters: dict[str, Any]
    inputs: dict[str, Array]
    outputs: list[dict[str, Any]] | None

    def wants_binary(self, output: str) -> bool:
        """True if ``output`` is to be answered as binary data; its own parameter wins."""
        default = self.parameters.get("binary_data_output", False)
        for asked in self.outputs or []:
            if asked["name"] == output:
                return bool(asked.get("parameters", {}).get("binary_data", default))
        return bool(default)


def read_request(body: bytes, json_size: str | None, specs: list[TensorSpec]) -> InferRequest:
    """An ``infer`` request.

    Args:
        body: JSON, then the binary tensors in the order of the inputs.
        json_size: the ``Inference-Header-Content-Length``; None: all of the body is JSON.
        specs: the model's inputs.

    Raises:
        Refusal: 400 malformed, or not what ``specs`` ask for.
    """
    size = json_bytes(body, json_size)
    call = _object(_parse(body[:size]), "the request")
    inputs = _objects(call.get("inputs"), "inputs")
    outputs = _objects(call["outputs"], "outputs") if call.get("outputs") is not None else None
    request_id = call.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise Refusal(400, "id: expected a string")
    return InferRequest(
        request_id,
        _object(call.get("parameters", {}), "parameters"),
        _read_inputs(inputs, body[size:], {spec.name: spec for spec in specs}),
        outputs,
    )


def pack_request(call: InferRequest) -> tuple[dict[str, Any], bytes]:
    """``call`` as it goes from process to process: a JSON object, and the tensors one after the other."""
    fields = {"id": call.id, "parameters": call.parameters, "outputs": call.outputs}
    inputs = [[name, values.dtype.str, values.shape] for name, values in call.inputs.items()]
    return fields | {"inputs": inputs}, b"".join(values.tobytes() for values in call.inputs.values())


def unpack_request(head: dict[str, Any], payload: bytes) -> InferRequest:
    """What :func:`pack_request` packed."""
    inputs: dict[str, Array] = {}
    offset = 0
    for name, dtype, shape in head["inputs"]:
        inputs[name] = np.frombuffer(payload, dtype, math.prod(shape), offset).reshape(shape)
        offset += inputs[name].nbytes
    return InferRequest(head["id"], head["parameters"], inputs, head["outputs"])


def json_bytes(body: bytes, given: str | None) -> int:
    """How much of an ``infer`` request is JSON: what its header says, or all of it.

    Raises:
        Refusal: 400 the header is no size, or more than there is.
    """
    if given is None:
        return len(body)
    if not given.isascii() or not given.isdigit() or len(given) > 18 or int(given) > len(body):
        raise Refusal(400, f"Inference-Header-Content-Length is {given!r}, the body has {len(body)} bytes")
    return int(given)


def _parse(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"failed to parse the request JSON buffer: {error}") from error


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refusal(400, f"{what}: expected a JSON object")
    return value


def _objects(value: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise Refusal(400, f"{what}: expected a list of objects")
    for item in value:
        if not isinstance(_object(item, what).get("name"), str):
            raise Refusal(400, f"{what}: each needs a name")
        _object(item.get("parameters", {}), f"{what}: parameters")
    return value


def _read_inputs(
    inputs: list[dict[str, Any]], binary: bytes, specs: dict[str, TensorSpec]
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


def _shape(tensor: dict[str, Any], spec: TensorSpec) -> tuple[int, ...]:
    if tensor.get("datatype") != spec.datatype:
        raise Refusal(
            400, f"input {spec.name!r}: datatype {tensor.get('datatype')!r}, expected {spec.datatype!r}"
        )
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 1 << 31 for size in shape):
        raise Refusal(400, f"input {spec.name!r}: shape {shape!r}, expected a list of sizes")
    fits = len(shape) == len(spec.shape) and all(
        want in (-1, got) for want, got in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        raise Refusal(400, f"input {spec.name!r}: unexpected shape {shape}, expected {list(spec.shape)}")
    return tuple(shape)


def _binary_size(tensor: dict[str, Any]) -> int | None:
    parameters = tensor.get("parameters", {})
    if "shared_memory_region" in parameters:
        raise Refusal(400, "shared memory is not supported")
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise Refusal(
            400, f"input {tensor['name']!r}: binary_data_size is {size!r}, expected a size in bytes"
        )
    if "data" in tensor:
        raise Refusal(400, f"input {tensor['name']!r}: has both data and binary_data_size")
    return size


def _from_binary(data: bytes, size: int, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    dtype = DATATYPES[spec.datatype]
    expected = math.prod(shape) * dtype.itemsize
    if size != expected or len(data) != size:
        raise Refusal(
            400, f"unexpected size for input {spec.name!r}: {len(data)} of {size} bytes, expected {expected}"
        )
    return np.frombuffer(data, dtype).reshape(shape)


def _from_json(tensor: dict[str, Any], spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    data = tensor.get("data")
    if not isinstance(data, list):
        raise Refusal(400, f"input {spec.name!r}: data missing, expected a list or binary_data_size")
    try:
        values = np.array(data) if data else np.empty(0, DATATYPES[spec.datatype])
    except ValueError as error:
        raise Refusal(400, f"input {spec.name!r}: data nested unevenly") from error
    wanted = "iu" if spec.datatype == "INT32" else "iuf"
    if values.dtype.kind not in wanted or values.size != math.prod(shape):
        raise Refusal(400, f"input {spec.name!r}: {values.size} values of data, expected shape {list(shape)}")
    if values.ndim != 1 and values.shape != shape:
        raise Refusal(400, f"input {spec.name!r}: data of shape {list(values.shape)}, expected {list(shape)}")
    if (
        spec.datatype == "INT32"
        and values.size
        and not -(2**31) <= int(values.min()) <= int(values.max()) < 2**31
    ):
        raise Refusal(400, f"input {spec.name!r}: a value does not fit INT32")
    with np.errstate(over="ignore"):  # what overflows is refused as not finite
        return values.astype(DATATYPES[spec.datatype]).reshape(shape)


def write_response(
    head: dict[str, Any], outputs: list[tuple[TensorSpec, Array, bool]]
) -> tuple[Chunks, int | None]:
    """An ``infer`` response.

    Args:
        head: ``model_name``, ``model_version`` and, if the request had one, ``id``.
        outputs: for each its name and datatype, its values, and whether as binary data.

    Returns:
        The body, and the size of its JSON if binary data follow.
    """
    texts, binary = [orjson.dumps(head)[:-1], b',"outputs":['], []
    for number, (spec, values, as_binary) in enumerate(outputs):
        tensor: dict[str, Any] = spec.describe() | {"shape": list(values.shape)}
        data = np.ascontiguousarray(values, dtype=DATATYPES[spec.datatype])
        texts.append(b"," if number else b"")
        if as_binary:
            tensor["parameters"] = {"binary_data_size": data.nbytes}
            binary.append(data.view(np.uint8).reshape(-1).data)
            texts.append(orjson.dumps(tensor))
        else:
            texts += [orjson.dumps(tensor)[:-1], b',"data":[', b",".join(json_items(data.ravel())), b"]}"]
    text = b"".join([*texts, b"]}"])
    return [text, *binary], len(text) if binary else None
