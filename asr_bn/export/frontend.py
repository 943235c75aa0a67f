"""A model that takes samples: filter bank, energy and deltas as ONNX nodes before the network.

Inputs are ``samples`` (float32 ``[batch, num_samples]``, int16 scale) and ``sample_lengths`` (int32
``[batch]``); outputs ``log_posteriors`` and ``lengths``, the frames of each utterance.
Source of the features: Kaldi ``src/feat/feature-fbank.cc``, as in :mod:`asr_bn.features.filterbank`.
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto

from asr_bn.acoustic_model.model import AcousticModel
from asr_bn.export.acoustic import add_network, log_posteriors_info
from asr_bn.features.deltas import delta_kernels
from asr_bn.features.fourier import twiddle_errors
from asr_bn.features.mel_banks import mel_weights
from asr_bn.features.options import FbankOptions
from asr_bn.features.windows import window_function
from asr_bn.onnx_io.graph import Graph, make_model, tensor_info, write_model
from asr_bn.scoring.metadata import METADATA_KEY, ModelMetadata
from asr_bn.system.arrays import Doubles


def export_with_frontend(model: AcousticModel, metadata: ModelMetadata, path: Path) -> None:
    """Write ``model`` with the computation of its features in front.

    Every utterance needs at least a frame; samples after its length are ignored.

    Raises:
        ValueError: filter bank options that the graph does not have (see ``_check``).
    """
    _check(metadata.fbank)
    graph = Graph()
    _add_frames(graph, metadata.fbank)
    _add_fbank(graph, metadata.fbank)
    _add_deltas(graph, metadata.delta_order)
    add_network(graph, model, "feats")
    samples = tensor_info("samples", ["batch", "num_samples"])
    lengths = [tensor_info(name, ["batch"], TensorProto.INT32) for name in ("sample_lengths", "lengths")]
    outputs = [log_posteriors_info(model.num_pdfs), lengths[1]]
    proto = graph.proto("asr_bn", [samples, lengths[0]], outputs)
    write_model(make_model(proto, {METADATA_KEY: metadata.to_json()}), path)


def spectrum_matrix(options: FbankOptions) -> Doubles:
    """Compute the matrix from a raw frame to its spectrum, ``[window_size, 2, num_bins]`` (real, imaginary).

    Removal of the mean, pre-emphasis, window, Fourier transform and the rounding of Kaldi's transform are
    all linear: one matrix, in float64.
    """
    size, padded = options.window_size, options.padded_window_size
    rows = np.eye(size)
    if options.remove_dc_offset:
        rows -= 1.0 / size
    before = np.concatenate([rows[:, :1], rows[:, :-1]], axis=1)
    rows = (rows - options.preemphasis_coefficient * before) * window_function(options).astype(np.float64)
    spectrum = np.fft.rfft(rows, padded, axis=1)
    if padded & (padded - 1) == 0:
        middle = padded // 4
        errors = twiddle_errors(padded)[: middle + 1].astype(np.complex128)
        leak = errors * (spectrum[:, : middle + 1] - np.conj(spectrum[:, : middle - 1 : -1]))
        spectrum[:, : middle + 1] += leak
        spectrum[:, middle + 1 :] -= np.conj(leak[:, :-1])[:, ::-1]
    used = spectrum[:, : padded // 2]
    return np.stack([used.real, used.imag], axis=1)


def _check(options: FbankOptions) -> None:
    wanted = {
        "use_log_fbank": True,
        "use_power": True,
        "snip_edges": True,
        "htk_compat": False,
        "raw_energy": True,
    }
    for name, value in wanted.items():
        if getattr(options, name) != value:
            raise ValueError(
                f"fbank option {name}={getattr(options, name)}: --with-frontend has only {value}"
            )


def _add_frames(graph: Graph, options: FbankOptions) -> None:
    """``frames``, float64 ``[batch, frames, window_size]``, and ``lengths``."""
    size, shift = options.window_size, options.window_shift
    graph.tensor("window_shift", [shift])
    graph.tensor("zero", 0)
    graph.tensor("one", 1)
    graph.tensor("ones", [1])
    graph.tensor("last_axis", [2])
    _check_lengths(graph)
    # Div rounds towards zero: adding a shift before it gives none, not one, to less than a window of samples.
    before = graph.tensor("before_first", [size - shift])
    graph.node("Sub", ["num_samples", before], "past_first")
    graph.node("Div", ["past_first", "window_shift"], "num_frames")
    graph.node("Cast", ["num_frames"], "lengths", to=TensorProto.INT32)
    graph.node("ReduceMax", ["num_frames"], "most_frames", keepdims=0)
    graph.node("Range", ["zero", "most_frames", "one"], "frame_index")
    graph.node("Mul", ["frame_index", "window_shift"], "frame_starts")
    graph.node("Unsqueeze", ["frame_starts", "ones"], "frame_column")
    graph.node(
        "Add", ["frame_column", graph.tensor("offsets", np.arange(size, dtype=np.int64)[None])], "gathered"
    )
    graph.node("Gather", ["checked_samples", "gathered"], "frames32", axis=1)
    graph.node("Cast", ["frames32"], "frames", to=TensorProto.DOUBLE)


def _check_lengths(graph: Graph) -> None:
    """``num_samples`` and ``checked_samples``, after nodes that refuse what ``LSTM`` would of ``lengths``."""
    origin, end = (graph.tensor(name, [k]) for k, name in enumerate(("origin", "end")))
    graph.node("Shape", ["samples"], "samples_shape")
    graph.node("Slice", ["samples_shape", origin, end], "batch_shape")
    graph.node("Reshape", ["sample_lengths", "batch_shape"], "one_length_an_utterance", allowzero=1)
    graph.node("Cast", ["one_length_an_utterance"], "num_samples", to=TensorProto.INT64)
    graph.node("ReduceMax", ["num_samples"], "most_samples", keepdims=1)
    graph.node("Gather", ["samples_shape", end], "row_size")
    graph.node("Sub", ["row_size", "most_samples"], "num_padding")
    graph.node("Concat", ["most_samples", "num_padding"], "split", axis=0)
    parts = ["checked_samples", "padding"]
    graph.node("Split", ["samples", "split"], *parts, name="length_within_samples", axis=1)


def _add_fbank(graph: Graph, options: FbankOptions) -> None:
    """``static``, float32 ``[batch, frames, num_features]``."""
    matrix = spectrum_matrix(options)
    flat = graph.tensor("spectrum.weight", matrix.reshape(len(matrix), -1))
    mel = mel_weights(options).astype(np.float64)
    graph.node("MatMul", ["frames", flat], "spectrum")
    graph.node("Mul", ["spectrum", "spectrum"], "squares")
    graph.node("MatMul", ["squares", graph.tensor("mel.weight", np.concatenate([mel, mel]))], "mel")
    names = ["mel"]
    if options.use_energy:
        _add_energy(graph, options)
        names = ["energy", "mel"]
    graph.node("Concat", names, "powers", axis=2)
    epsilon = np.array(np.finfo(np.float32).eps, dtype=np.float64)
    graph.node("Max", ["powers", graph.tensor("epsilon", epsilon)], "floored")
    graph.node("Log", ["floored"], "logs")
    static = "logs"
    if options.use_energy and options.energy_floor > 0:
        floor = np.full(options.num_features, -np.inf)
        floor[0] = np.log(options.energy_floor)
        static = "logs_floored"
        graph.node("Max", ["logs", graph.tensor("energy_floor", floor)], static)
    if options.subtract_mean:
        static = _without_mean(graph, static)
    graph.node("Cast", [static], "static", to=TensorProto.FLOAT)


def _without_mean(graph: Graph, static: str) -> str:
    """Subtract the mean of each utterance's own frames."""
    graph.node("Unsqueeze", ["num_frames", "ones"], "num_frames_column")
    graph.node("Less", ["frame_index", "num_frames_column"], "is_frame")  # [batch, frames]
    graph.node("Unsqueeze", ["is_frame", "last_axis"], "is_frame_column")
    nothing = graph.tensor("nothing", np.array(0, dtype=np.float64))
    graph.node("Where", ["is_frame_column", static, nothing], "own_frames")
    graph.node("ReduceSum", ["own_frames", "ones"], "column_sums", keepdims=1)
    graph.node("Cast", ["num_frames"], "frame_counts", to=TensorProto.DOUBLE)
    inner_axes = graph.tensor("inner_axes", [1, 2])
    graph.node("Unsqueeze", ["frame_counts", inner_axes], "divisors")
    graph.node("Div", ["column_sums", "divisors"], "column_means")
    graph.node("Sub", [static, "column_means"], "centred")
    return "centred"


def _add_energy(graph: Graph, options: FbankOptions) -> None:
    centred = "frames"
    if options.remove_dc_offset:
        graph.node("ReduceMean", ["frames"], "frame_mean", axes=[2], keepdims=1)
        graph.node("Sub", ["frames", "frame_mean"], "frames_centred")
        centred = "frames_centred"
    graph.node("Mul", [centred, centred], "frame_squares")
    graph.node("ReduceSum", ["frame_squares", "last_axis"], "energy", keepdims=1)


def _add_deltas(graph: Graph, order: int) -> None:
    """``feats``: the static features and their deltas, the first and last frame repeated past the edges."""
    kernels = delta_kernels(order)
    reach = len(kernels[-1]) // 2
    graph.node("Sub", ["num_frames", "ones"], "last_frame")
    graph.node("Unsqueeze", ["last_frame", "ones"], "last_column")
    graph.tensor("first_frame", 0)
    shifted = {}
    for shift in range(-reach, reach + 1):
        name = f"time{shift}"
        graph.node("Add", ["frame_index", graph.tensor(f"shift{shift}", [shift])], name)
        graph.node("Max", [name, "first_frame"], f"{name}.low")
        graph.node("Min", [f"{name}.low", "last_column"], f"{name}.index")  # [batch, frames]
        graph.node("Unsqueeze", [f"{name}.index", "last_axis"], f"{name}.column")
        graph.node("GatherND", ["static", f"{name}.column"], f"{name}.static", batch_dims=1)
        shifted[shift] = f"{name}.static"
    columns = []
    for index, kernel in enumerate(kernels):
        terms = []
        for tap, weight in enumerate(kernel):
            if weight:
                name = f"delta{index}.{tap}"
                value = graph.tensor(f"{name}.weight", np.array(weight, dtype=np.float32))
                graph.node("Mul", [shifted[tap - len(kernel) // 2], value], name)
                terms.append(name)
        graph.node("Sum", terms, f"delta{index}")
        columns.append(f"delta{index}")
    graph.node("Concat", columns, "feats", axis=2)
