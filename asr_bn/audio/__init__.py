"""Waveforms from any audio file or stream, in Kaldi's int16 range."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
