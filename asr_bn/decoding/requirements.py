"""The wheels decoding needs, which are an extra."""

import importlib.util


def require_decoder() -> None:
    """Say what to install where the decoder is missing.

    Raises:
        ValueError: it is.
    """
    _require(("kaldi_decoder", "kaldifst", "kaldialign"))


def require_graph_tools() -> None:
    """Say what to install where what builds graphs is missing.

    Raises:
        ValueError: it is.
    """
    _require(("kaldifst", "kaldilm"))


def _require(modules: tuple[str, ...]) -> None:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        names = " ".join(module.replace("_", "-") for module in missing)
        raise ValueError(f"not installed: {names}; pip install 'asr-bn[decode]' has it")
