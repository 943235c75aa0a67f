"""Checks of an ONNX file before it is parsed or loaded.

A runtime trusts a model file: it opens other files for weights, computes shapes as it loads, and runs
operators of any library.  Exported models need none of these, so that everything else is refused.  The file
is read field by field, never parsed as a whole: a few megabytes of empty messages would become gigabytes of
objects.

Source: ``onnx/onnx.proto``, whose field numbers stand below.
"""

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from asr_bn.onnx_io.protobuf import Field, fields, varint
from asr_bn.onnx_io.versions import QUANTIZATION_DOMAIN

if TYPE_CHECKING:
    import onnx

# Those of the exporters, and of ONNX Runtime's dynamic quantization of such a model.
_STANDARD = """
    Add Cast Concat Div DynamicQuantizeLinear Gather GatherND Identity Less Log LogSoftmax Loop LSTM MatMul
    MatMulInteger Max Min Mul Pad Range ReduceMax ReduceMean ReduceSum Reshape RNN Scan Shape Sigmoid Slice
    Softmax Split Squeeze Sub Sum Tanh Transpose Unsqueeze Where
"""
OPERATORS = {
    "": frozenset(_STANDARD.split()),
    QUANTIZATION_DOMAIN: frozenset(["DynamicQuantizeLSTM", "DynamicQuantizeMatMul"]),
}
MAX_FILE_BYTES = (1 << 31) - 1  # a protobuf message has no more
MAX_NODES = 5000
MAX_FIELDS = 200_000
# Of all that is neither a node nor a tensor's raw data: names, metadata, documentation.
MAX_LOOSE_BYTES = 8 << 20
MAX_INPUT_SIZE = 1 << 24
_MAX_DIMS = 8
_MAX_DEPTH = 1
_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}  # by TensorProto.DataType

# ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto, ValueInfoProto and its parts
_GRAPH, _TRAINING, _FUNCTIONS = 7, 20, 25
_NODE, _INITIALIZER, _INPUT, _SPARSE = 1, 5, 11, 15
_NODE_INPUT, _OPERATOR, _ATTRIBUTE, _DOMAIN = 1, 4, 5, 7
_TENSORS_OF_ATTRIBUTE, _BODY, _BODIES = (5, 10, 22, 23), 6, 11
_DIMS, _TYPE, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 8, 9, 13, 14
_VALUE_NAME, _VALUE_TYPE, _TENSOR_TYPE, _SHAPE, _DIM, _DIM_VALUE = 1, 2, 1, 2, 1, 1


def check_model(path: Path, max_loose_bytes: int = MAX_LOOSE_BYTES) -> frozenset[str]:
    """Return the operators of a model file, if it holds no more than a model of ours.

    Args:
        max_loose_bytes: of all that is neither a node nor a tensor's raw data.

    Raises:
        ValueError: not an ONNX file, weights in other files, operators or sizes that no model of ours has.
        OSError: it cannot be read.
    """
    return _read_checked(path, max_loose_bytes)[1]


def read_model(path: Path) -> "onnx.ModelProto":
    """Read a model file after the checks of `check_model`, whose errors it raises."""
    import onnx

    return onnx.load_from_string(_read_checked(path, MAX_LOOSE_BYTES)[0])


def is_quantized(operators: Collection[str]) -> bool:
    """Return whether activations are quantized as the graph runs."""
    return any(operator.startswith("DynamicQuantize") for operator in operators)


def _read_checked(path: Path, max_loose_bytes: int) -> tuple[bytes, frozenset[str]]:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes, an ONNX model has up to {MAX_FILE_BYTES}")
    data = path.read_bytes()
    try:
        return data, operators_of(memoryview(data), max_loose_bytes)
    except ValueError as error:
        raise ValueError(f"{path}: not a model that asr-bn can load ({error})") from error


def operators_of(model: memoryview, max_loose_bytes: int = MAX_LOOSE_BYTES) -> frozenset[str]:
    """Return the operators of a ``ModelProto``; see `check_model`.

    Raises:
        ValueError: the reason, without the file's name.
    """
    return _ModelCheck(max_loose_bytes).operators_of(model)


class _ModelCheck:
    """The check of one file: what has been counted so far."""

    def __init__(self, max_loose_bytes: int) -> None:
        self._max_loose_bytes = max_loose_bytes
        self._operators: set[str] = set()
        self._num_fields = self._num_nodes = self._loose_bytes = 0

    def operators_of(self, model: memoryview) -> frozenset[str]:
        graphs = 0
        for number, value in self._fields(model):
            if number in (_TRAINING, _FUNCTIONS):
                raise ValueError("it holds functions or training")
            if number == _GRAPH:
                graphs += 1
                self._graph(_message(value), frozenset(), 0)
            else:
                self._count(value)
        if graphs != 1 or not self._num_nodes:
            raise ValueError("not an ONNX file")
        return frozenset(self._operators)

    def _fields(self, message: memoryview) -> Iterator[Field]:
        for field in fields(message):
            self._num_fields += 1
            if self._num_fields > MAX_FIELDS:
                raise ValueError(f"more than {MAX_FIELDS} fields")
            yield field

    def _count(self, value: int | memoryview) -> None:
        self._loose_bytes += len(value) if isinstance(value, memoryview) else 8
        if self._loose_bytes > self._max_loose_bytes:
            raise ValueError(f"more than {self._max_loose_bytes} bytes besides its weights")

    def _text(self, value: int | memoryview) -> str:
        self._count(value)
        return bytes(_message(value)).decode("utf-8", "surrogateescape")

    def _graph(self, graph: memoryview, outer: frozenset[str], depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise ValueError("loops within loops")
        nodes, constants, inputs = [], set(outer), set()
        for number, value in self._fields(graph):
            if number == _SPARSE:
                raise ValueError("sparse weights")
            if number == _NODE:
                nodes.append(_message(value))
            elif number == _INITIALIZER:
                constants.add(self._tensor(_message(value)))
            else:
                self._count(value)
                if number == _INPUT:
                    inputs.add(self._input(_message(value)))
        for node in nodes:
            self._node(node, frozenset(constants - inputs), depth)

    def _node(self, node: memoryview, constants: frozenset[str], depth: int) -> None:
        self._num_nodes += 1
        if self._num_nodes > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} operations")
        words: dict[int, list[str]] = {_OPERATOR: [], _DOMAIN: [], _NODE_INPUT: []}
        for number, value in self._fields(node):
            if number in words:
                words[number].append(self._text(value))
            elif number == _ATTRIBUTE:
                self._attribute(_message(value), constants, depth)
            else:
                self._count(value)
        self._operators.add(_operator(words[_OPERATOR], words[_DOMAIN]))
        # The runtime would compute it as it loads the model, however large it is.
        if all(name in constants for name in words[_NODE_INPUT] if name):
            raise ValueError(f"operator {words[_OPERATOR][0]!r} of constants alone")

    def _attribute(self, attribute: memoryview, constants: frozenset[str], depth: int) -> None:
        for number, value in self._fields(attribute):
            if number in _TENSORS_OF_ATTRIBUTE or number == _BODIES:
                raise ValueError("an operator with weights or several graphs of its own")
            if number == _BODY:
                self._graph(_message(value), constants, depth + 1)
            else:
                self._count(value)

    def _tensor(self, tensor: memoryview) -> str:
        name, dims, kind, raw, typed_bytes = "", list[int](), 0, list[int](), 0
        for number, value in self._fields(tensor):
            if number == _EXTERNAL or (number == _LOCATION and value != 0):
                raise ValueError("its weights lie in other files")
            if number == _DIMS:
                dims += _integers(value)
            elif number == _TYPE and isinstance(value, int):
                kind = value
            elif number == _NAME:
                name = self._text(value)
            elif number == _RAW:
                raw.append(len(_message(value)))
            else:
                self._count(value)
                typed_bytes += len(value) if isinstance(value, memoryview) else 1
        _check_tensor(name, dims, kind, raw, typed_bytes)
        return name

    def _input(self, value_info: memoryview) -> str:
        name, size = "", 1
        for number, value in self._fields(value_info):
            if number == _VALUE_NAME:
                name = self._text(value)
            for dim in self._within(_VALUE_TYPE, number, value, (_TENSOR_TYPE, _SHAPE, _DIM, _DIM_VALUE)):
                size *= max(dim, 1)
                if size > MAX_INPUT_SIZE:
                    raise ValueError(f"an input of {size} values or more")
        return name

    def _within(
        self, wanted: int, number: int, value: int | memoryview, path: tuple[int, ...]
    ) -> Iterator[int]:
        """Yield the integers at the end of a path of field numbers."""
        if number != wanted:
            return
        if not path:
            if isinstance(value, int):
                yield value
            return
        for inner_number, inner in self._fields(_message(value)):
            yield from self._within(path[0], inner_number, inner, path[1:])


def _check_tensor(name: str, dims: list[int], kind: int, raw: list[int], typed_bytes: int) -> None:
    """Make sure that a tensor's values are in the file, all that its shape promises.

    Raises:
        ValueError: they are not.
    """
    if kind not in _ITEM_BYTES or len(dims) > _MAX_DIMS or any(dim >= 1 << 31 for dim in dims):
        raise ValueError(f"tensor {name[:80]!r} of type {kind}, shape {dims[:_MAX_DIMS]}")
    size = math.prod(dims)
    is_whole = raw == [size * _ITEM_BYTES[kind]] if raw else size <= typed_bytes
    if not is_whole:
        raise ValueError(f"tensor {name[:80]!r} of shape {dims}, and other values than that")


def _operator(names: list[str], domains: list[str]) -> str:
    name, domain = "".join(names), "".join(domains)
    if domain == "ai.onnx":
        domain = ""
    if len(names) != 1 or name not in OPERATORS.get(domain, ()):
        where = f" of {domain[:80]!r}" if domain else ""
        raise ValueError(f"unknown operator {name[:80]!r}{where}")
    return name


def _integers(value: int | memoryview) -> list[int]:
    """Read a field of repeated integers, packed or one of many."""
    if isinstance(value, int):
        return [value]
    values: list[int] = []
    at = 0
    while at < len(value) and len(values) <= _MAX_DIMS:
        number, at = varint(value, at)
        values.append(number)
    return values


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("not an ONNX file")
    return value
