"""ONNX files and sessions, without PyTorch: versions, checks before a session is made, options."""
