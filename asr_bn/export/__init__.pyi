from .acoustic import export_onnx as export_onnx
from .frontend import export_with_frontend as export_with_frontend
from .onnx_import import import_onnx as import_onnx
from .parity import Parity as Parity
from .parity import compare as compare
from .quantization import InputScale as InputScale
from .quantization import quantize_onnx as quantize_onnx
from .triton_repository import TritonBatching as TritonBatching
from .triton_repository import write_repository as write_repository

__all__ = [
    "InputScale",
    "Parity",
    "TritonBatching",
    "compare",
    "export_onnx",
    "export_with_frontend",
    "import_onnx",
    "quantize_onnx",
    "write_repository",
]
