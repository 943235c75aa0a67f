"""From posteriors to words: decoding graphs, lattices, forced alignment, word errors."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
