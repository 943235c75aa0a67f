"""The features of a corpus, computed in parallel and written to an archive."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
