"""Export to ONNX: float32, half precision or 8 bits; and checks against the trained model."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
