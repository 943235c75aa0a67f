"""Posteriors from an exported model by ONNX Runtime, without PyTorch."""
