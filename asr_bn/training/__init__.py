"""What any training run is made of: its loop, checkpoints and resume, optimization, ranks, device, log."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
