"""The example of a report: named phones, whose posteriors are the library's."""

from pathlib import Path

import numpy as np
import pytest

from asr_bn.data.alignments import read_pdf_ids
from asr_bn.data.kaldi_system import require_system
from asr_bn.kaldi_io.matrix_table import MatrixWriter
from asr_bn.report.example import score_example
from asr_bn.report.figures import draw_example
from asr_bn.scoring import AcousticScorer
from asr_bn.system.arrays import Floats
from tests.helpers.kaldi_fixtures import SYNTHETIC
from tests.helpers.serving import write_model, write_phone_model

ALI = SYNTHETIC / "ali"


@pytest.fixture
def feats(tmp_path: Path) -> dict[str, Floats]:
    random = np.random.default_rng(0)
    made = {u: random.normal(size=(len(p), 41)).astype(np.float32) for u, p in read_pdf_ids(ALI).items()}
    with MatrixWriter(f"ark,scp:{tmp_path}/feats.ark,{tmp_path}/feats.scp") as writer:
        for utt_id, matrix in made.items():
            writer.write(utt_id, matrix)
    return made


def test_phones_are_named_and_their_posteriors_are_the_librarys(
    feats: dict[str, Floats], tmp_path: Path
) -> None:
    for name in ("baseline", "batch_norm"):
        write_phone_model(tmp_path / name / "model.onnx", seed=len(name))
    example = score_example(tmp_path, tmp_path, ALI)
    table, pdf_ids = require_system(ALI).phones, read_pdf_ids(ALI)[example.utt_id]
    aligned = [table.names[phone] for phone in table.main_phones()[pdf_ids]]
    assert [example.phones[place] for place in example.aligned] == aligned
    assert example.phones == list(dict.fromkeys(aligned))  # in order of first appearance
    for name, found in example.posteriors.items():
        scorer = AcousticScorer.load(tmp_path / name / "model.onnx", "cpu")
        names = scorer.columns("phone").names or ()
        scores = np.exp(scorer(feats[example.utt_id], level="phone"))
        np.testing.assert_array_equal(found, scores[:, [names.index(phone) for phone in example.phones]])
    labels = [text.get_text() for text in draw_example(example).axes[1].get_yticklabels()]
    assert labels == example.phones


def test_models_without_phones_show_pdfs(feats: dict[str, Floats], tmp_path: Path) -> None:
    for name in ("baseline", "batch_norm"):
        write_model(tmp_path / name / "model.onnx", num_pdfs=72)
    example = score_example(tmp_path, tmp_path, ALI)
    pdf_ids = read_pdf_ids(ALI)[example.utt_id]
    assert [example.phones[place] for place in example.aligned] == [f"pdf {pdf}" for pdf in pdf_ids]
