"""torchaudio's own Kaldi features, an oracle."""

from types import ModuleType

import pytest


def torchaudio_kaldi() -> ModuleType:
    """Return ``torchaudio.compliance.kaldi``; skip where it does not go with the PyTorch there is."""
    try:
        from torchaudio.compliance import kaldi
    except (ImportError, RuntimeError, OSError) as error:
        pytest.skip(f"torchaudio: {error}")
    module: ModuleType = kaldi
    return module
