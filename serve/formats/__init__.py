"""Bytes to arrays and back: bodies, forms, tensors, parameters, answers."""
