"""The wheels that decoding needs, an extra of the package."""

import importlib.util


def require_decoder() -> None:
    """Raise ``ValueError``, with what to install, if the decoder is missing."""
    _require(("kaldifst", "kaldialign"))


def require_graph_tools() -> None:
    """Raise ``ValueError``, with what to install, if the builder of graphs is missing."""
    _require(("kaldifst", "kaldilm"))


def require_gmm_tools() -> None:
    """Raise ``ValueError``, with what to install, if the tools of GMM training are missing."""
    _require(("kaldi_hmm_gmm", "kaldifst"))


def _require(modules: tuple[str, ...]) -> None:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        names = " ".join(module.replace("_", "-") for module in missing)
        raise ValueError(f"not installed: {names}; pip install 'asr-bn[decode]' has it")
