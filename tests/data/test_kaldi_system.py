"""The system that goes with a model, against what Kaldi's programs make of the same files."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.data.alignments import read_pdf_ids
from asr_bn.data.kaldi_system import MAX_BYTES, KaldiSystem, read_aligned, read_system, require_system
from asr_bn.decoding.hmms import Hmms
from asr_bn.kaldi_io.context_dependency import ContextDependency
from asr_bn.kaldi_io.int_vector_table import read_int_vectors, write_int_vectors
from asr_bn.kaldi_io.phone_table import read_phone_names
from asr_bn.kaldi_io.transition_model import TransitionModel, read_model_bytes
from tests.helpers.kaldi_fixtures import SYNTHETIC

ALI = SYNTHETIC / "ali"


@pytest.fixture(scope="module")
def system() -> KaldiSystem:
    return require_system(ALI)


def test_the_transition_model_is_what_copy_transition_model_writes() -> None:
    """To the byte, binary and text; the GMM behind it is left out."""
    expected = (SYNTHETIC / "variants/transition_model.bin").read_bytes()
    assert read_model_bytes(ALI / "final.mdl") == expected
    assert read_model_bytes(SYNTHETIC / "variants/transition_model.bin") == expected
    text = gzip.decompress((SYNTHETIC / "variants/transition_model.txt.gz").read_bytes())
    # Only copy-transition-model ends a line after the last word, where a GMM follows.
    assert read_model_bytes(SYNTHETIC / "variants/final.mdl.txt.gz").split() == text.split()


def test_counts_are_those_of_the_transition_ids(system: KaldiSystem) -> None:
    tids = np.concatenate([v for _, v in read_int_vectors(SYNTHETIC / "oracles/ali/tid.txt.gz")])
    assert system.tid_counts == np.bincount(tids, minlength=1197).tolist()


@pytest.mark.parametrize("name", ["ali", "variants/mono", "variants/chain"])
def test_json_keeps_all_of_it(name: str, tmp_path: Path) -> None:
    system = require_system(SYNTHETIC / name)
    again = KaldiSystem.from_dict(json.loads(json.dumps(system.to_dict())))
    assert again == system
    again.write(tmp_path)
    theirs = TransitionModel.read(SYNTHETIC / name / "final.mdl")
    for model in (again.transition_model(), TransitionModel.read(tmp_path / "final.mdl")):
        np.testing.assert_array_equal(model.tid_to_pdf, theirs.tid_to_pdf)
        np.testing.assert_array_equal(model.tid_to_phone, theirs.tid_to_phone)
    assert (tmp_path / "tree").is_file() == (SYNTHETIC / name / "tree").is_file()
    assert (tmp_path / "phones.txt").is_file() == (SYNTHETIC / name / "phones.txt").is_file()


def test_what_is_written_is_what_was_read(system: KaldiSystem, tmp_path: Path) -> None:
    system.write(tmp_path)
    assert (tmp_path / "tree").read_bytes() == (ALI / "tree").read_bytes()
    assert read_phone_names(tmp_path / "phones.txt") == read_phone_names(ALI / "phones.txt")
    assert system.tree() == ContextDependency.read(ALI / "tree")
    hmms = Hmms.from_stream(system.open_transition_model())
    assert hmms.transitions == Hmms.read(ALI / "final.mdl").transitions


def test_an_archive_of_pdf_ids_keeps_its_system(system: KaldiSystem, tmp_path: Path) -> None:
    archive = tmp_path / "pdf.ark"
    run("alignments", ALI, f"ark:{archive}")
    for path in (tmp_path, archive):
        pdf_ids, read = read_aligned(path)
        assert read == system
        assert pdf_ids.keys() == read_pdf_ids(ALI).keys()
    run("alignments", ALI, f"ark:{tmp_path}/phones.ark", "--phones")
    run("alignments", tmp_path, f"ark:{tmp_path}/copy.ark")
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["pdf.ark.system.json"]


def test_a_lost_system_is_written_again_and_one_of_other_alignments_does_not_stay(tmp_path: Path) -> None:
    path = tmp_path / "pdf.ark.system.json"
    run("alignments", ALI, f"ark:{tmp_path}/pdf.ark")
    path.unlink()
    run("alignments", ALI, f"ark:{tmp_path}/pdf.ark")
    assert read_system(path).phone_names
    write_int_vectors(f"ark:{tmp_path}/other", [("u", np.zeros(3, dtype=np.int32))])
    run("alignments", tmp_path / "other", f"ark:{tmp_path}/pdf.ark")
    assert not path.exists()
    with pytest.raises(ValueError, match="pdf-ids only, expected a Kaldi alignment folder"):
        require_system(tmp_path / "pdf.ark")


def test_several_archives_add_their_frames(system: KaldiSystem, tmp_path: Path) -> None:
    for job in (1, 2):
        part = tmp_path / f"ali{job}"
        part.mkdir()
        (part / "ali.1.gz").write_bytes((ALI / f"ali.{job}.gz").read_bytes())
        for name in ("final.mdl", "tree", "phones.txt"):
            (part / name).write_bytes((ALI / name).read_bytes())
        run("alignments", part, f"ark:{tmp_path}/pdf/pdf.{job}.ark")
    assert require_system(tmp_path / "pdf") == system
    (tmp_path / "ali2/final.mdl").write_bytes((SYNTHETIC / "variants/mono/final.mdl").read_bytes())
    (tmp_path / "ali2/ali.1.gz").write_bytes((SYNTHETIC / "variants/mono/ali.2.gz").read_bytes())
    run("alignments", tmp_path / "ali2", f"ark:{tmp_path}/pdf/pdf.2.ark")
    with pytest.raises(ValueError, match=r"pdf\.2\.ark\.system\.json: has another transition model"):
        require_system(tmp_path / "pdf")


def test_phones_without_names_are_called_by_their_numbers(tmp_path: Path) -> None:
    for name in ("final.mdl", "ali.1.gz"):
        (tmp_path / name).write_bytes((ALI / name).read_bytes())
    system = require_system(tmp_path)
    assert (system.tree(), system.phones.names[:3]) == (None, ("1", "2", "3"))


BOMB = KaldiSystem({}, bytes(MAX_BYTES + 1), None, []).to_dict()["transition_model"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"phone_names": {"x": "A"}}, "phone_names"),
        ({"phone_names": {"1": "A B"}}, "phone_names"),
        ({"phone_names": []}, "phone_names"),
        ({"tid_counts": [1.5]}, "tid_counts"),
        ({"tid_counts": [-1]}, "tid_counts"),
        ({"tid_counts": None}, "tid_counts"),
        ({"transition_model": None}, "transition_model"),
        ({"transition_model": "AAAA"}, "transition_model"),
        ({"transition_model": BOMB}, "unpacks to more than"),
        ({"tree": "?"}, "tree"),
        ({"tree": 1}, "tree"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_damaged_values_are_refused(system: KaldiSystem, change: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named) as error:
        KaldiSystem.from_dict(system.to_dict() | change)
    assert len(str(error.value)) < 200


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{}")
    with pytest.raises(ValueError, match=f"^{tmp_path}/x: the Kaldi system's phone_names"):
        read_system(tmp_path / "x")


def test_a_damaged_tree_is_refused_as_it_is_collected(tmp_path: Path) -> None:
    for name in ("final.mdl", "ali.1.gz"):
        (tmp_path / name).write_bytes((ALI / name).read_bytes())
    (tmp_path / "tree").write_bytes((ALI / "tree").read_bytes()[:100])
    with pytest.raises(ValueError, match=f"{tmp_path}/tree: "):
        require_system(tmp_path)


def run(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
