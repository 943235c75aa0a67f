"""Writing ONNX graphs node by node, without PyTorch; every model of this project is written here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from asr_bn.onnx_io.versions import IR_VERSION, OPSET, QUANTIZATION_DOMAIN, QUANTIZATION_OPSET
from asr_bn.system.arrays import Floats
from asr_bn.system.files import write_bytes

Shape: TypeAlias = Sequence[str | int | None]
# PyTorch orders the gates i, f, g, o; ONNX i, o, f, c.
_ONNX_GATES = [0, 3, 1, 2]


class Graph:
    """Nodes and constants in the order in which they are added.

    Args:
        half: write float32 constants as float16.
        prefix: of the names of nodes.
    """

    def __init__(self, half: bool = False, prefix: str = "") -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.half, self._prefix = half, prefix

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        *outputs: str,
        name: str = "",
        domain: str | None = None,
        **attributes: object,
    ) -> str:
        """Add a node, named as its first output if ``name`` is empty, and return that output."""
        node = helper.make_node(
            kind, inputs, outputs, name or self._prefix + outputs[0], domain=domain or None
        )
        node.attribute.extend(helper.make_attribute(*pair) for pair in sorted(attributes.items()))
        self.nodes.append(node)
        return outputs[0]

    def tensor(
        self, name: str, values: NDArray[np.generic] | list[int] | int, may_be_half: bool = True
    ) -> str:
        """Add a constant and return its name; a single number becomes a vector of one, integers int64."""
        array = np.atleast_1d(values)
        if self.half and may_be_half and array.dtype == np.float32:
            array = array.astype(np.float16)
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def proto(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.GraphProto:
        """Return the whole graph."""
        return helper.make_graph(self.nodes, name, inputs, outputs, self.tensors)


def tensor_info(
    name: str, shape: Shape | None, kind: int = TensorProto.FLOAT, doc: str = ""
) -> onnx.ValueInfoProto:
    """Describe an input or output; ``shape`` None leaves it open."""
    return helper.make_tensor_value_info(name, kind, shape, doc_string=doc)


def make_model(
    graph: onnx.GraphProto, properties: Mapping[str, str] | None = None, is_quantized: bool = False
) -> onnx.ModelProto:
    """Wrap a graph as a model with the metadata ``properties``."""
    opsets = [helper.make_opsetid("", OPSET)]
    if is_quantized:
        opsets.append(helper.make_opsetid(QUANTIZATION_DOMAIN, QUANTIZATION_OPSET))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="asr_bn")
    helper.set_model_props(model, dict(properties or {}))
    return model


def write_model(model: onnx.ModelProto, path: Path) -> None:
    """Check a model with ``onnx.checker`` and write it.

    Raises:
        onnx.checker.ValidationError: it is malformed.
    """
    # Shapes cannot be inferred through ONNX Runtime's own operators.
    onnx.checker.check_model(model, full_check=len(model.opset_import) == 1)
    write_bytes(path, model.SerializeToString())


def by_onnx_gates(values: Floats) -> Floats:
    """Reorder axis 1, ``4 * hidden_size``, of an LSTM's weights or biases from PyTorch's gates to ONNX's."""
    gates = np.split(values, 4, axis=1)
    return np.concatenate([gates[k] for k in _ONNX_GATES], axis=1)
