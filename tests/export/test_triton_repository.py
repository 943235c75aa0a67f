"""Triton's configuration: read by Triton's own schema (tritonclient's), against the ONNX file."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from asr_bn.export.triton_repository import TritonBatching, repository_files, write_repository
from asr_bn.scoring.scorer import AcousticScorer
from serve.service.models import LoadOptions, ModelStore
from tests.helpers.serving import NUM_PDFS, write_model

ONNX_TYPES = {"TYPE_FP32": "tensor(float)", "TYPE_INT32": "tensor(int32)"}


@pytest.fixture(scope="module")
def schema() -> Any:
    """``model_config_pb2`` alone: the package around it needs gRPC."""
    text_format = pytest.importorskip("google.protobuf.text_format", reason="needs protobuf")
    found = importlib.util.find_spec("tritonclient")
    if found is None:
        pytest.skip("needs tritonclient")
    file = Path(found.submodule_search_locations[0], "grpc", "model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["model_config_pb2"] = module
    spec.loader.exec_module(module)
    return lambda path: text_format.Parse(path.read_text(), module.ModelConfig())


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_repository(write_model(tmp_path / "batch_norm" / "model.onnx"), tmp_path / "triton")
    return tmp_path / "triton"


def test_tensors_are_those_of_the_file_without_its_batch_axis(repository, schema):
    config = schema(repository / "batch_norm" / "config.pbtxt")
    session = onnxruntime.InferenceSession(
        repository / "batch_norm" / "1" / config.default_model_filename, providers=["CPUExecutionProvider"]
    )
    types = type(config).DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number
    for described, real in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [tensor.name for tensor in described] == [tensor.name for tensor in real]
        for tensor, of_file in zip(described, real, strict=True):
            assert ONNX_TYPES[types[tensor.data_type].name] == of_file.type
            # What Triton hands to the backend: the batch axis, then the dims, reshaped where it says so
            inner = list(tensor.reshape.shape) if tensor.HasField("reshape") else list(tensor.dims)
            assert [None, *inner] == [None, *(n if isinstance(n, int) else -1 for n in of_file.shape[1:])]
    assert list(config.output[0].dims) == [-1, NUM_PDFS]
    assert list(config.input[1].dims) == [1]


def test_requests_are_joined_bounded_and_refused(tmp_path, schema):
    model = write_model(tmp_path / "wsj.onnx")
    batching = TritonBatching(max_batch_size=8, max_queue_delay_us=2000, max_queue=10, timeout_us=5_000_000)
    config = schema(write_repository(model, tmp_path / "triton", batching))
    assert (config.name, config.backend, config.max_batch_size) == ("wsj", "onnxruntime", 8)
    policy = config.dynamic_batching.default_queue_policy
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (10, 5_000_000)
    assert policy.allow_timeout_override
    assert policy.timeout_action == type(policy).REJECT


def test_padding_to_a_common_length_changes_no_bit(repository):
    """What the configuration's comment asks of clients is safe."""
    scorer = AcousticScorer.load(repository / "batch_norm" / "1" / "model.onnx", "cpu", 1)
    feats = np.random.default_rng(0).standard_normal((2, 100, 123)).astype(np.float32)
    lengths = np.array([71, 93], np.int32)
    (padded,) = scorer.session.run(None, {"features": feats, "lengths": lengths})
    for row, length in enumerate(lengths):
        (alone,) = scorer.log_posteriors([feats[row, :length]])
        assert np.array_equal(padded[row, :length], alone)


def test_our_server_reads_the_same_layout(repository):
    store = ModelStore(repository, "", LoadOptions(device="cpu"))
    store.load_all()
    assert store.get("batch_norm", "1").metadata.num_pdfs == NUM_PDFS


def test_a_model_that_is_not_one_of_batches_is_refused(tmp_path):
    from onnx import TensorProto, helper, save

    sizes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", sizes[:1], sizes[1:])
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8),
        tmp_path / "x.onnx",
    )
    with pytest.raises(ValueError, match="x has shape"):
        write_repository(tmp_path / "x.onnx", tmp_path / "triton")
    assert not (tmp_path / "triton").exists()


def test_the_command_writes_it_and_again_when_it_is_gone(tmp_path):
    """A checkpoint as ``asr-bn finish`` leaves it."""
    import dataclasses

    from typer.testing import CliRunner

    from asr_bn.cli.main import app
    from asr_bn.training.checkpoint import ACOUSTIC_MODEL, save_checkpoint
    from tests.helpers.acoustic_models import FBANK, make_metadata, make_model

    model, metadata = make_model(norm="sequence"), make_metadata(norm="sequence")
    description = {
        "fbank": dataclasses.asdict(FBANK),
        "num_pdfs": metadata.num_pdfs,
        "pdf_counts": metadata.pdf_counts,
    }
    state = {"config": metadata.config, "description": description, "version": {}, "figures": {}}
    exported = tmp_path / "s" / "batch_norm" / "model.onnx"
    exported.parent.mkdir(parents=True)
    save_checkpoint(exported.parent / "final.pt", state | {"model": model.state_dict()}, ACOUSTIC_MODEL)
    arguments = ["export", str(exported.parent), str(exported), "--triton", str(tmp_path / "triton")]
    copy, config = repository_files(exported, tmp_path / "triton")
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    assert copy.read_bytes() == exported.read_bytes()
    text = config.read_text()
    assert 'name: "batch_norm"' in text
    config.unlink()
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    assert config.read_text() == text
