"""Metadata of a model file that fit no model, or another one."""

import copy
import json
from pathlib import Path

import onnx
import pytest

from asr_bn.scoring.metadata import METADATA_KEY, ModelMetadata
from asr_bn.scoring.scorer import AcousticScorer
from tests.helpers.serving import write_model


@pytest.fixture(scope="module")
def proto(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return onnx.load(write_model(tmp_path_factory.mktemp("model") / "model.onnx"))


def with_metadata(proto: onnx.ModelProto, path: Path, **values: object) -> Path:
    changed = copy.deepcopy(proto)
    (entry,) = (entry for entry in changed.metadata_props if entry.key == METADATA_KEY)
    entry.value = json.dumps(json.loads(entry.value) | values)
    path.write_bytes(changed.SerializeToString())
    return path


@pytest.mark.parametrize(
    "values",
    [
        {"num_pdfs": 10**12},
        {"num_pdfs": "20"},
        {"num_pdfs": 0, "pdf_counts": []},
        {"num_pdfs": 21},
        {"num_pdfs": 21, "pdf_counts": [1] * 21},
        {"pdf_counts": [1] * 19},
        {"pdf_counts": ["x"] * 20},
        {"pdf_counts": {"a": 1}},
        {"pdf_counts": [-1] * 20},
        {"delta_order": 10**9},
        {"delta_order": "2"},
        {"delta_order": 1},
        {"fbank": {"num_mel_bins": 10**9}},
        {"fbank": {"num_mel_bins": 20}},
        {"fbank": {"sample_frequency": 1e15}},
        {"fbank": {"sample_frequency": 1e308, "frame_shift_ms": 1e308}},
        {"fbank": {"frame_length_ms": 1e300}},
        {"fbank": {"num_mel_bins": "x"}},
        {"fbank": []},
        {"fbank": None},
    ],
    ids=str,
)
def test_metadata_that_fit_no_model_or_not_this_one_are_refused(proto, tmp_path, values):
    path = with_metadata(proto, tmp_path / "model.onnx", **values)
    with pytest.raises(ValueError) as error:
        AcousticScorer.load(path, "cpu")
    assert str(error.value).startswith(f"{path}: ")
    assert len(str(error.value)) < len(str(path)) + 300


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "1", '"x"', "null", "{", "", '{"a": ' * 3000])
def test_metadata_that_are_no_object_are_refused(text):
    with pytest.raises(ValueError):
        ModelMetadata.from_json(text)
