"""The check of model files."""

import onnx
from google.protobuf.message import DecodeError

from asr_bn.onnx_io.model_check import operators_of
from fuzz.targets import Target


def onnx_model(data: bytes) -> None:
    """Check a model: one that passes holds what ``onnx`` reads in it, and no weights of other files."""
    try:
        operators = operators_of(memoryview(data))
        graph = onnx.load_from_string(data).graph
    except (ValueError, DecodeError):
        return
    graphs = [graph]
    found = set()
    for one in graphs:  # grows as it is walked
        assert not any(tensor.external_data or tensor.data_location for tensor in one.initializer)
        for node in one.node:
            found.add(node.op_type)
            graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    assert found == operators


TARGETS: dict[str, Target] = {"onnx_model": onnx_model}
