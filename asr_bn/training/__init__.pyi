from .checkpoint import ACOUSTIC_MODEL as ACOUSTIC_MODEL
from .checkpoint import LANGUAGE_MODEL as LANGUAGE_MODEL
from .checkpoint import Checkpoint as Checkpoint
from .checkpoint import load_checkpoint as load_checkpoint
from .checkpoint import save_checkpoint as save_checkpoint
from .device import choose_device as choose_device
from .ranks import Ranks as Ranks
from .ranks import process_group as process_group
from .run_loop import DivergedError as DivergedError
from .run_loop import RunLoop as RunLoop

__all__ = [
    "ACOUSTIC_MODEL",
    "Checkpoint",
    "DivergedError",
    "LANGUAGE_MODEL",
    "Ranks",
    "RunLoop",
    "choose_device",
    "load_checkpoint",
    "process_group",
    "save_checkpoint",
]
