"""The paper's language models (section 5.2, appendix A): text, network, training, export, scoring."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
