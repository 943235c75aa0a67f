"""Forced alignment: when each word and phone of a known text is spoken."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
