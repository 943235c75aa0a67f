"""Export to ONNX, 8-bit and front-end variants, and proof that they answer as the trained model does."""
