"""Feature extraction of a whole corpus: in parallel, into a Kaldi archive."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
