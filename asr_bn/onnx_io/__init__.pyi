from .graph import Graph as Graph
from .graph import make_model as make_model
from .graph import tensor_info as tensor_info
from .graph import write_model as write_model
from .model_check import check_model as check_model
from .model_check import is_quantized as is_quantized
from .model_check import read_model as read_model

__all__ = [
    "Graph",
    "check_model",
    "is_quantized",
    "make_model",
    "read_model",
    "tensor_info",
    "write_model",
]
