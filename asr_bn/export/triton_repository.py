"""A model repository for NVIDIA's Triton Inference Server: ``NAME/1/model.onnx`` and ``NAME/config.pbtxt``.

The configuration follows Triton's ``model_configuration.md``: a batch axis of its own, dynamic batching, a
queue that refuses when it is full or a request has waited too long.  What is in it comes from the ONNX file.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from onnx import TensorProto, ValueInfoProto

from asr_bn.onnx_io.model_check import read_model
from asr_bn.system.files import atomic_path, write_text

_DATA_TYPES: dict[int, str] = {
    TensorProto.FLOAT: "TYPE_FP32",
    TensorProto.FLOAT16: "TYPE_FP16",
    TensorProto.INT32: "TYPE_INT32",
    TensorProto.INT64: "TYPE_INT64",
}

_CONFIG = """\
# Triton joins requests of equal shape only: let clients pad features to a multiple of, say, 50 frames.
# The true number goes into "lengths"; what is padded changes no answer.
name: "{name}"
backend: "onnxruntime"
default_model_filename: "model.onnx"
max_batch_size: {batching.max_batch_size}
{tensors}dynamic_batching {{
  max_queue_delay_microseconds: {batching.max_queue_delay_us}
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: {batching.timeout_us}
    allow_timeout_override: true
    max_queue_size: {batching.max_queue}
  }}
}}
"""


@dataclass(frozen=True)
class TritonBatching:
    """How Triton joins requests and bounds their queue; times in microseconds."""

    max_batch_size: int = 16
    max_queue_delay_us: int = 3000
    max_queue: int = 64
    timeout_us: int = 30_000_000


def repository_files(model: Path, repository: Path) -> tuple[Path, Path]:
    """Return the paths that `write_repository` writes: the model's copy and the configuration.

    The model is named as its file is, or as the folder of a file that is just called ``model.onnx``.
    """
    name = model.absolute().parent.name if model.stem == "model" else model.stem
    return repository / name / "1" / "model.onnx", repository / name / "config.pbtxt"


def write_repository(model: Path, repository: Path, batching: TritonBatching | None = None) -> Path:
    """Add an exported model to a repository, as version 1; ``asr-bn serve`` reads the same layout.

    Args:
        model: an ONNX file of `asr_bn.export.acoustic` or `asr_bn.export.quantization`.
        repository: the folder that Triton's ``--model-repository`` names.
        batching: Triton's batching and queue; None for the defaults.

    Returns:
        The configuration's file.

    Raises:
        ValueError: an input or output of the model has no leading batch axis, or a type without a name here.
    """
    copy, config = repository_files(model, repository)
    text = config_text(model, config.parent.name, batching or TritonBatching())
    with atomic_path(copy) as temporary:
        shutil.copyfile(model, temporary)
    write_text(config, text)
    return config


def config_text(model: Path, name: str, batching: TritonBatching) -> str:
    """Format ``config.pbtxt``; raises as `write_repository`."""
    graph = read_model(model).graph
    tensors = "".join(
        f"{kind} {_describe(model, tensor)}"
        for kind, group in (("input", graph.input), ("output", graph.output))
        for tensor in group
    )
    return _CONFIG.format(name=name, batching=batching, tensors=tensors)


def _describe(model: Path, tensor: ValueInfoProto) -> str:
    """A tensor without its batch axis; one of nothing but the batch axis is sent as ``[1]`` a request."""
    kind = tensor.type.tensor_type
    dims = [axis.dim_value or -1 for axis in kind.shape.dim]
    if kind.elem_type not in _DATA_TYPES or not dims or dims[0] != -1:
        raise ValueError(
            f"{model}: {tensor.name} has shape {dims} of type {kind.elem_type}, not one of a batch"
        )
    lines = [f'name: "{tensor.name}"', f"data_type: {_DATA_TYPES[kind.elem_type]}"]
    if dims[1:]:
        lines.append(f"dims: [ {', '.join(map(str, dims[1:]))} ]")
    else:
        lines += ["dims: [ 1 ]", "reshape { shape: [ ] }"]
    return "{\n  " + "\n  ".join(lines) + "\n}\n"
