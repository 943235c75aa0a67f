from .acoustic import export_onnx
from .frontend import export_with_frontend
from .onnx_import import import_onnx
from .parity import Parity, compare
from .quantization import InputScale, quantize_onnx
from .triton_repository import TritonBatching, write_repository

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
