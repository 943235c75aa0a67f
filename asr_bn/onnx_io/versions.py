"""Versions of the ONNX files written here."""

# Chosen for breadth: everything used here is in opset 14, and IR 8 is read by ONNX Runtime from 1.10 on.
OPSET = 14
IR_VERSION = 8

# Where ONNX Runtime keeps its 8-bit operators.
QUANTIZATION_DOMAIN = "com.microsoft"
QUANTIZATION_OPSET = 1
