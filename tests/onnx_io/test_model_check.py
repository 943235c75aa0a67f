"""What is in a model file is checked before anything is built of it; what our exporters write passes."""

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from asr_bn.export.acoustic import export_onnx
from asr_bn.export.frontend import export_with_frontend
from asr_bn.export.onnx_import import import_onnx
from asr_bn.export.quantization import InputScale, quantize_onnx
from asr_bn.export.triton_repository import write_repository
from asr_bn.language_model import scoring
from asr_bn.language_model.metadata import LanguageModelMetadata
from asr_bn.language_model.onnx_export import export_graph
from asr_bn.onnx_io.model_check import (
    MAX_FIELDS,
    MAX_LOOSE_BYTES,
    MAX_NODES,
    OPERATORS,
    check_model,
    is_quantized,
    operators_of,
)
from asr_bn.scoring.layer_sessions import ModelLayers
from asr_bn.scoring.scorer import AcousticScorer
from serve.service.models import LoadOptions, ModelStore
from tests.helpers import language_models
from tests.helpers.acoustic_models import make_metadata, make_model
from tests.helpers.serving import write_model
from tests.onnx_io.test_protobuf import encoded

MODELS = [{"norm": "none"}, {"norm": "sequence"}, {"norm": "sequence", "peephole": True}]


@pytest.mark.parametrize("options", MODELS, ids=str)
@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "with-frontend"])
def test_every_file_that_the_exporters_write_is_loaded(tmp_path, options, kind):
    """The oracle of the operators is the ``onnx`` package's own parser."""
    model, metadata, path = make_model(**options), make_metadata(**options), tmp_path / "model.onnx"
    if kind == "with-frontend":
        export_with_frontend(model, metadata, path)
    else:
        export_onnx(model, metadata, path, half=kind == "float16")
    if kind == "int8":
        scale = InputScale(model.feats_mean.numpy(), model.feats_std.numpy())
        quantize_onnx(path, metadata, scale, path)
    assert check_model(path) == operators_by_onnx(path.read_bytes())
    assert is_quantized(check_model(path)) == (kind == "int8")
    if kind != "float16":  # its operators are CUDA's
        AcousticScorer.load(path, "cpu")


@pytest.mark.parametrize("cell", ["lstm", "tanh"])
@pytest.mark.parametrize("norm", ["none", "frame", "recurrent"])
@torch.no_grad()
def test_every_language_model_that_is_exported_is_loaded(tmp_path, cell, norm):
    model = language_models.make_model(cell=cell, norm=norm)
    model(torch.arange(8) % 7, torch.tensor([4, 4]))  # for its statistics
    config = language_models.make_experiment().to_dict()
    for graph in ("window", "step"):
        path = tmp_path / f"{graph}.onnx"
        export_graph(model.eval(), LanguageModelMetadata(graph, ("</s>",), config, {}, {}, "0"), path)
        assert check_model(path) == operators_by_onnx(path.read_bytes())
    assert scoring.LanguageScorer.load(tmp_path / "window.onnx").metadata.config == config


def operators_by_onnx(data: bytes) -> set[str]:
    nodes = list(onnx.load_from_string(data).graph.node)
    for node in nodes:  # grows as it is walked
        for attribute in node.attribute:
            nodes += attribute.g.node
    return {node.op_type for node in nodes}


@pytest.fixture(scope="module")
def proto(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return onnx.load(write_model(tmp_path_factory.mktemp("model") / "model.onnx"))


Change = Callable[[onnx.ModelProto], object]


def of_constants(kind: str, *inputs: object, **attributes: object) -> Change:
    """Adds an operator whose inputs are all in the file."""

    def change(proto: onnx.ModelProto) -> None:
        names = [f"constant{k}" for k in range(len(inputs))]
        for name, values in zip(names, inputs, strict=True):
            proto.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        proto.graph.node.insert(0, helper.make_node(kind, names, ["large"], **attributes))

    return change


def add_node(kind: str, *inputs: str, domain: str = "", **attributes: object) -> Change:
    node = helper.make_node(kind, [*inputs], ["added"], domain=domain, **attributes)
    return lambda proto: proto.graph.node.append(node)


def change_tensor(**values: object) -> Change:
    def change(proto: onnx.ModelProto) -> None:
        tensor = proto.graph.initializer[-1]
        for name, value in values.items():
            tensor.ClearField(name)
            if isinstance(value, list):
                getattr(tensor, name).extend(value)
            else:
                setattr(tensor, name, value)

    return change


def external(location: str) -> Change:
    def change(proto: onnx.ModelProto) -> None:
        tensor = proto.graph.initializer[-1]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def loop(depth: int, initializers: list[TensorProto], kind: str = "Identity") -> onnx.NodeProto:
    info = [
        helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("index", TensorProto.INT64, []),
    ]
    nodes = (
        [helper.make_node(kind, ["go_on"], ["still"])]
        if depth == 0
        else [loop(depth - 1, initializers, kind)]
    )
    body = helper.make_graph(nodes, "body", info[::-1], info[:1], initializers)
    return helper.make_node("Loop", ["lengths", ""], [f"looped{depth}"], body=body)


def endless_loop(proto: onnx.ModelProto) -> None:
    node = loop(0, [])
    node.input[:] = ["times", ""]
    proto.graph.node.append(node)
    proto.graph.initializer.append(numpy_helper.from_array(np.array(1 << 60), "times"))


def external_in_a_loop(proto: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "inner")
    tensor.external_data.add(key="location", value="/etc/hostname")
    proto.graph.node.append(loop(0, [tensor]))


ZEROS = numpy_helper.from_array(np.zeros(3, np.float32), "value")
CHANGES: dict[str, tuple[Change, str]] = {
    "external data": (external("weights.bin"), "other files"),
    "external data by a path": (external("/etc/hostname"), "other files"),
    "external data by an address": (external("*/_ORT_MEM_ADDR_/*"), "other files"),
    "external data in a loop": (external_in_a_loop, "other files"),
    "a location alone": (change_tensor(data_location=TensorProto.EXTERNAL), "other files"),
    "an unknown operator": (add_node("Evil", "features"), "'Evil'"),
    "an operator of another library": (add_node("LSTM", "features", domain="com.evil"), "of 'com.evil'"),
    "an operator of a contributed kind": (
        add_node("Inverse", "features", domain="com.microsoft"),
        "'Inverse'",
    ),
    "a quantized operator without its domain": (
        add_node("DynamicQuantizeLSTM", "features"),
        "unknown operator",
    ),
    "an operator that ours do not need": (add_node("ConstantOfShape", "lengths"), "'ConstantOfShape'"),
    "random numbers": (add_node("RandomNormal", shape=[1 << 40]), "'RandomNormal'"),
    "no operator at all": (lambda proto: proto.graph.node.append(onnx.NodeProto()), "unknown operator ''"),
    "a constant that grows": (of_constants("Range", 0, 1 << 50, 1), "constants alone"),
    "a product of constants": (
        of_constants("MatMul", np.zeros((1 << 20, 1), np.int8), np.zeros((1, 1 << 20), np.int8)),
        "constants alone",
    ),
    "padding of constants": (of_constants("Pad", np.zeros(1), np.array([0, 1 << 50])), "constants alone"),
    "a loop that nobody ends": (
        lambda proto: of_constants("Identity", 1 << 60, True)(proto),
        "constants alone",
    ),
    "loops within loops": (lambda proto: proto.graph.node.append(loop(1, [])), "loops within loops"),
    "an operator in a loop": (lambda proto: proto.graph.node.append(loop(0, [], "Evil")), "'Evil'"),
    "weights in an operator": (add_node("Identity", "features", value=ZEROS), "an operator with weights"),
    "several graphs of an operator": (
        add_node("Identity", "features", bodies=[helper.make_graph([], "g", [], [])]),
        "several graphs",
    ),
    "functions": (lambda proto: proto.functions.add(name="f"), "functions"),
    "training": (lambda proto: proto.training_info.add(), "training"),
    "sparse weights": (lambda proto: proto.graph.sparse_initializer.add(), "sparse"),
    "a shape beyond the data": (change_tensor(dims=[1 << 20, 1 << 20]), "other values"),
    "a shape that overflows": (change_tensor(dims=[1 << 40, 1 << 40]), "shape"),
    "a negative shape": (change_tensor(dims=[-1]), "shape"),
    "a shape of many dimensions": (change_tensor(dims=[1] * 1000), "shape"),
    "fewer values": (change_tensor(raw_data=b"1234"), "other values"),
    "texts": (change_tensor(data_type=TensorProto.STRING), "of type 8"),
    "an unknown type": (change_tensor(data_type=999), "of type 999"),
    "values nowhere": (change_tensor(raw_data=b"", float_data=[1.0]), "other values"),
    "an input of a fixed size": (
        lambda proto: proto.graph.input[0].type.tensor_type.shape.dim[0].__setattr__("dim_value", 1 << 40),
        "an input of",
    ),
    "many operations": (
        lambda proto: proto.graph.node.extend([proto.graph.node[0]] * (MAX_NODES + 1)),
        f"more than {MAX_NODES}",
    ),
    "much metadata": (
        lambda proto: proto.metadata_props.add(key="x", value="y" * MAX_LOOSE_BYTES),
        "besides",
    ),
    "a long name": (change_tensor(name="x" * (MAX_LOOSE_BYTES + 1)), "besides"),
    "many small parts": (
        lambda proto: proto.graph.value_info.extend([onnx.ValueInfoProto()] * MAX_FIELDS),
        f"more than {MAX_FIELDS}",
    ),
    "nothing": (lambda proto: proto.ParseFromString(b""), "not an ONNX file"),
    "no operations": (lambda proto: proto.graph.ClearField("node"), "not an ONNX file"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_no_model_of_ours_holds_is_refused_before_a_session_is_made(proto, tmp_path, monkeypatch, name):
    change, says = CHANGES[name]
    altered = copy.deepcopy(proto)
    change(altered)
    path = tmp_path / "altered.onnx"
    path.write_bytes(altered.SerializeToString())

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("a session was made")

    monkeypatch.setattr(onnxruntime, "InferenceSession", never)
    for loader in ("load", "load_from_string"):
        monkeypatch.setattr(onnx, loader, never)
    readers: list[Callable[[Path], object]] = [AcousticScorer.load, ModelLayers, import_onnx]
    readers.append(lambda path: ModelStore(path, "", LoadOptions("cpu")).load_all())
    readers.append(lambda path: write_repository(path, tmp_path / "triton"))
    readers.append(scoring.LanguageScorer.load)
    monkeypatch.setattr(scoring, "MAX_METADATA_BYTES", MAX_LOOSE_BYTES)  # they may hold large vocabularies
    for read in readers:
        with pytest.raises(ValueError) as error:
            read(path)
        sentence = str(error.value)
        assert sentence.startswith(f"{path}: not a model that asr-bn can load (") and says in sentence
        assert len(sentence) < len(str(path)) + 300 and "\n" not in sentence


@pytest.mark.parametrize("piece", [b"\x0a\x00", b"\x2a\x00", b"\x5a\x00", b"\x0a\x02\x22\x00"])
def test_a_bomb_of_small_messages_costs_no_more_than_its_file(tmp_path, piece):
    """Parsed, a node of two bytes takes two hundred."""
    graph = piece * (20_000_000 // len(piece))
    path = tmp_path / "bomb.onnx"
    path.write_bytes(b"\x3a" + encoded(len(graph)) + graph)
    code = (
        "import resource, sys; from pathlib import Path; from asr_bn.onnx_io.model_check import check_model\n"
        "size = 200 << 20; resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
        "try: check_model(Path(sys.argv[1])); sys.exit(2)\n"
        "except ValueError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert "bomb.onnx: not a model" in done.stdout


def test_a_file_larger_than_any_message_is_not_read(tmp_path):
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="an ONNX model has up to"):
        check_model(path)


def test_a_model_cut_anywhere_is_refused(proto, tmp_path):
    data = proto.SerializeToString()
    path = tmp_path / "cut.onnx"
    for size in range(0, len(data), 97):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"cut\.onnx: not a model"):
            AcousticScorer.load(path, "cpu")


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=4))
def test_damaged_models_are_refused_or_hold_what_onnx_reads_in_them(proto, position, replacement):
    data = bytearray(proto.SerializeToString())
    position %= len(data)
    data[position : position + len(replacement)] = replacement
    try:
        found = operators_of(memoryview(bytes(data)))
    except ValueError:
        return
    try:
        expected = operators_by_onnx(bytes(data))
    except Exception:  # protobuf's own
        return
    assert found == expected


def test_the_operators_are_ones_that_onnx_has():
    for domain, names in OPERATORS.items():
        if not domain:
            assert all(onnx.defs.has(name) for name in names)


def test_no_other_code_opens_model_files():
    """Layers are run from graphs in memory, which `read_model` checked."""
    root = Path(__file__).parents[2]
    sources = {path: path.read_text() for name in ("asr_bn", "serve") for path in (root / name).rglob("*.py")}
    opening = {path.name for path, text in sources.items() if "InferenceSession(" in text}
    assert opening == {"session.py", "layer_sessions.py"}
    assert {path.name for path, text in sources.items() if "onnx.load" in text} == {"model_check.py"}
