"""ONNX Runtime sessions of model files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import onnxruntime

from asr_bn.onnx_io.model_check import MAX_LOOSE_BYTES, check_model

Metadata = TypeVar("Metadata")


def session_options(num_threads: int) -> onnxruntime.SessionOptions:
    """Make options for calls of many shapes.

    Args:
        num_threads: threads within one call.
    """
    options = base_options(num_threads)
    # Arenas and patterns grow with every new shape.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    return options


def base_options(num_threads: int | None) -> onnxruntime.SessionOptions:
    """Make options for calls of a few shapes; ``num_threads`` None leaves it to ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Threads that spin take cores from other calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if num_threads is not None:
        options.intra_op_num_threads = num_threads
    return options


def open_session(
    path: Path,
    options: onnxruntime.SessionOptions,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    max_loose_bytes: int = MAX_LOOSE_BYTES,
) -> tuple[onnxruntime.InferenceSession, frozenset[str]]:
    """Check a model file and load it: every session of a file is opened here.

    Returns:
        The session and the operators of the model.

    Raises:
        ValueError: as `check_model`, or ONNX Runtime cannot load it; the message names the file.
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(2, "no such model file", str(path))
    operators = check_model(path, max_loose_bytes)
    try:
        return onnxruntime.InferenceSession(path, options, providers=list(providers)), operators
    except Exception as error:  # ONNX Runtime's own errors share no base class
        first_line = str(error).splitlines()[0]
        raise ValueError(f"{path}: ONNX Runtime cannot load it ({first_line})") from error


def parse_metadata(
    path: Path, properties: Mapping[str, str], key: str, parse: Callable[[str], Metadata], kind: str = "model"
) -> Metadata:
    """Parse the metadata that an exporter wrote under ``key``.

    Args:
        path: the model file, for errors.
        properties: the file's ``metadata_props``.
        key: of asr-bn's entry.
        parse: reads its text.
        kind: what to call the model in errors.

    Raises:
        ValueError: there is no such entry, or it cannot be parsed; the message names the file.
    """
    if key not in properties:
        raise ValueError(f"{path}: not a {kind} that asr-bn exported (it has no '{key}' metadata)")
    try:
        return parse(properties[key])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
