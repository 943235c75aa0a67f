from .graph import Graph, make_model, tensor_info, write_model
from .model_check import check_model, is_quantized, read_model

__all__ = ["Graph", "check_model", "is_quantized", "make_model", "read_model", "tensor_info", "write_model"]
