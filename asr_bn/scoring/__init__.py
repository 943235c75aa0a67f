"""Posteriors of an exported model by ONNX Runtime, without PyTorch."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
