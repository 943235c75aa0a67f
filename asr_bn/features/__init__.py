"""Kaldi's filterbank features in NumPy: options, windows, mel banks, deltas, CMVN."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
