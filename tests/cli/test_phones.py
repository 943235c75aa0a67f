"""Phones travel from the training command to the exported model; what earlier versions wrote still loads."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.data.alignments import read_pdf_ids
from asr_bn.data.kaldi_system import KaldiSystem, require_system
from asr_bn.features.options import FbankOptions
from asr_bn.kaldi_io.matrix_table import MatrixScp, MatrixWriter
from asr_bn.scoring import AcousticScorer
from asr_bn.scoring.metadata import METADATA_KEY, ModelMetadata
from asr_bn.training.checkpoint import ACOUSTIC_MODEL, load_checkpoint, save_checkpoint
from tests.helpers.kaldi_fixtures import SYNTHETIC

ALI = SYNTHETIC / "ali"
CONFIG = "[model]\nnum_layers = 1\nhidden_size = 4\n[training]\nepochs = 1\nbatch_size = 2\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``out/final.pt``, of a network trained on noise with real alignments."""
    folder = tmp_path_factory.mktemp("phones")
    random = np.random.default_rng(0)
    with MatrixWriter(f"ark,scp:{folder}/feats.ark,{folder}/feats.scp") as writer:
        for utt_id, pdf_ids in read_pdf_ids(ALI).items():
            writer.write(utt_id, random.normal(size=(len(pdf_ids), 4)).astype(np.float32))
    FbankOptions(num_mel_bins=3).write_conf(folder / "fbank.conf")
    (folder / "config.toml").write_text(CONFIG)
    sets = ["--data", folder, "--ali", ALI, "--dev-data", folder, "--dev-ali", ALI, "--device", "cpu"]
    run("train", folder / "config.toml", *sets, "--out", folder / "out")
    run("finish", folder / "out", *sets)
    return folder


def test_the_exported_model_knows_its_phones(trained: Path) -> None:
    run("export", trained / "out", trained / "model.onnx")
    metadata = metadata_of(trained / "model.onnx")
    assert metadata.system == require_system(ALI)
    assert metadata.phones.names[:2] == ("SIL", "SIL_B")
    assert metadata.phones.folded().names[:3] == ("SIL", "SPN", "AA")


def test_the_final_evaluation_has_the_frame_phone_error_rate(trained: Path) -> None:
    """Counted again over the exported model's scores."""
    run("export", trained / "out", trained / "model.onnx")
    scorer = AcousticScorer.load(trained / "model.onnx", "cpu")
    wrong = wrong_pdfs = total = 0
    main = scorer.metadata.phones.folded().main_phones()
    feats = MatrixScp(trained / "feats.scp")
    for utt_id, pdf_ids in read_pdf_ids(ALI).items():
        best = scorer(feats[utt_id]).argmax(axis=1)
        wrong += int((main[best] != main[pdf_ids]).sum())
        wrong_pdfs, total = wrong_pdfs + int((best != pdf_ids).sum()), total + len(pdf_ids)
    figures = json.loads((trained / "out/final.json").read_text())
    # A frame or two may be so close that rounding decides.
    assert figures["dev_fer"] == pytest.approx(wrong_pdfs / total, abs=2 / total)
    assert figures["dev_phone_fer"] == pytest.approx(wrong / total, abs=2 / total)
    assert figures["dev_phone_fer"] <= figures["dev_fer"]


def test_a_checkpoint_of_an_earlier_version_exports_and_gets_phones_from_the_alignments(
    trained: Path, tmp_path: Path
) -> None:
    state = load_checkpoint(trained / "out/final.pt", ACOUSTIC_MODEL)
    del state["system"]
    save_checkpoint(tmp_path / "final.pt", state, ACOUSTIC_MODEL)
    run("export", tmp_path, tmp_path / "model.onnx")
    old = metadata_of(tmp_path / "model.onnx")
    assert old.system is None
    with pytest.raises(
        ValueError, match="^the model does not know its phones: .* --train-ali DIR' adds them$"
    ):
        _ = old.phones
    run("export", tmp_path, tmp_path / "model.onnx", "--train-ali", ALI)
    assert metadata_of(tmp_path / "model.onnx").system == require_system(ALI)


def test_alignments_of_another_model_are_refused(trained: Path, tmp_path: Path) -> None:
    result = invoke(
        "export", trained / "out", tmp_path / "m.onnx", "--train-ali", SYNTHETIC / "variants/mono"
    )
    assert str(result.exception) == "the Kaldi system has 121 pdfs, the model has 72"


def test_a_model_of_an_earlier_version_loads(trained: Path) -> None:
    run("export", trained / "out", trained / "model.onnx")
    metadata = metadata_of(trained / "model.onnx")
    values = json.loads(metadata.to_json())
    assert ModelMetadata.from_json(json.dumps(values)) == metadata
    del values["system"]
    assert ModelMetadata.from_json(json.dumps(values)).system is None


def test_phones_of_another_model_are_refused(trained: Path) -> None:
    run("export", trained / "out", trained / "model.onnx")
    metadata = metadata_of(trained / "model.onnx")
    mono = require_system(SYNTHETIC / "variants/mono")
    damaged = KaldiSystem({}, mono.transition_model_bytes[:100], None, [])
    for system, message in ((mono, "has 121 pdfs, expected 72"), (damaged, "cut short")):
        values = json.loads(metadata.to_json()) | {"system": system.to_dict()}
        with pytest.raises(ValueError, match=f"^the model's metadata: .*{message}"):
            _ = ModelMetadata.from_json(json.dumps(values)).phones


def metadata_of(path: Path) -> ModelMetadata:
    (entry,) = (entry for entry in onnx.load(path).metadata_props if entry.key == METADATA_KEY)
    return ModelMetadata.from_json(entry.value)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run(*arguments: object) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output or result.exception
