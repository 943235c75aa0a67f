"""``asr-bn decode``: that its files fit each other.  The network is random."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.decoding.lattices.paths import best_paths
from asr_bn.decoding.search_options import ScoreWeights
from asr_bn.kaldi_io.int_vector_table import read_int_vectors
from asr_bn.kaldi_io.lattice_table import read_lattices
from asr_bn.kaldi_io.phone_table import read_phone_names
from tests.decoding.lattices.test_rescoring import UNIGRAM, WORDS
from tests.helpers.graph_costs import run
from tests.helpers.graphs import arpa_text, lexicon_dir
from tests.helpers.kaldi_fixtures import SYNTHETIC
from tests.helpers.language_models import write_language_model
from tests.helpers.serving import write_model

# The network prefers silence to speech.
MANY_WORDS = ("--word-penalty", -20, "--lattice-beam", 14)
UTTERANCES = {"f1-015": "bring my chair", "f2-008": "bring chair"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A unigram graph, a data folder, a network and an ARPA file of bigrams."""
    folder = tmp_path_factory.mktemp("decode")
    lexicon = lexicon_dir(folder / "dict")
    (folder / "uni.arpa").write_text(UNIGRAM)
    (folder / "bi.arpa").write_text(arpa_text(*WORDS))
    ali = SYNTHETIC / "ali"
    said = run(lexicon, ali, folder / "graph", "--tree", ali / "tree", "--arpa", folder / "uni.arpa")
    assert not said.startswith("error"), said
    write_model(folder / "model.onnx", num_pdfs=72)
    (folder / "data").mkdir()
    lines = (f"{u} {SYNTHETIC}/audio/{u}.wav\n" for u in UTTERANCES)
    (folder / "data/wav.scp").write_text("".join(lines))
    (folder / "data/text").write_text("".join(f"{u} {text}\n" for u, text in UTTERANCES.items()))
    return folder


def decode(folder: Path, out: Path, *options: object, graph: str = "graph") -> str:
    arguments = [folder / "model.onnx", folder / graph, folder / "data", out, "--nj", 1, "--device", "cpu"]
    result = CliRunner().invoke(app, ["decode", *map(str, [*arguments, *options])])
    return f"error: {result.exception}" if result.exit_code else result.stderr


def table(path: Path) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in path.read_text().splitlines()}


def check_files(out: Path, words_txt: Path, is_rescored_list: bool = False) -> dict[str, object]:
    """Check words, costs, alignments, n-best lists and times against each other and against the lattices."""
    summary: dict[str, object] = json.loads((out / "decode.json").read_text())
    weights = ScoreWeights(float(str(summary["acoustic_scale"])), float(str(summary["word_penalty"])))
    hypotheses, costs = table(out / "hyp.txt"), table(out / "costs.txt")
    names, alignments = read_phone_names(words_txt), dict(read_int_vectors(f"ark:{out / 'ali.ark'}"))
    ctm = [line.split() for line in (out / "hyp.ctm").read_text().splitlines()]
    assert sum(map(len, hypotheses.values())) > 3
    lists = json.loads((out / "nbest.json").read_text())
    for utt_id, lattice in read_lattices(out / "lat.1.gz"):
        entries = lists[utt_id]
        assert entries[0]["words"].split() == hypotheses[utt_id]
        assert len({entry["words"] for entry in entries}) == len(entries)
        assert [entry["cost"] for entry in entries] == sorted(entry["cost"] for entry in entries)
        for entry in entries:
            penalty = weights.word_penalty * len(entry["words"].split())
            total = entry["graph_cost"] + weights.acoustic_scale * entry["acoustic_cost"] + penalty
            assert entry["cost"] == pytest.approx(total, abs=1e-9)
        written = [entries[0]["graph_cost"], entries[0]["acoustic_cost"]]
        assert [float(cost) for cost in costs[utt_id]] == pytest.approx(written, rel=1e-6)
        rows = [row for row in ctm if row[0] == utt_id]
        assert [row[4] for row in rows] == hypotheses[utt_id]
        assert all(0 <= float(row[5]) <= 1 for row in rows)
        ends = [float(row[2]) + float(row[3]) for row in rows]
        assert max(ends, default=0.0) <= 0.01 * len(alignments[utt_id]) + 1e-6
        if not is_rescored_list:
            (path,) = best_paths(lattice, [weights])
            assert [names[word] for word in path.words] == hypotheses[utt_id]
            assert path.transition_ids.tolist() == alignments[utt_id].tolist()
    return summary


def test_the_files_fit_each_other(folder: Path, tmp_path: Path) -> None:
    assert not decode(folder, tmp_path, *MANY_WORDS).startswith("error")
    summary = check_files(tmp_path, folder / "graph/words.txt")
    assert summary["posterior_scale"] and "confidence" in summary
    assert "decoded already" in decode(folder, tmp_path, *MANY_WORDS)


def test_rescored_lattices_fit_too(folder: Path, tmp_path: Path) -> None:
    options = (*MANY_WORDS, "--rescore-arpa", folder / "bi.arpa")
    assert not decode(folder, tmp_path, *options).startswith("error")
    check_files(tmp_path, folder / "graph/words.txt")


def test_lists_rescored_by_a_language_model_fit_too(folder: Path, tmp_path: Path) -> None:
    model = write_language_model(tmp_path / "lm.onnx", words=WORDS)
    said = decode(folder, tmp_path / "out", *MANY_WORDS, "--rescore-lm", model)
    assert not said.startswith("error"), said
    summary = check_files(tmp_path / "out", folder / "graph/words.txt", is_rescored_list=True)
    assert summary["lm_scale"] in (0.25, 0.5, 0.75, 1.0)
    said = decode(folder, tmp_path / "fixed", "--rescore-lm", model, "--lm-scale", 0.3)
    assert json.loads((tmp_path / "fixed/decode.json").read_text())["lm_scale"] == 0.3


def test_without_pronunciations_there_are_no_times_and_without_g_no_rescoring(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "graph", folder / "bare")
    shutil.rmtree(folder / "bare/phones")
    (folder / "bare/G.fst").unlink()
    said = decode(folder, tmp_path, "--n-best", 0, graph="bare")
    assert "align_lexicon.int: missing, so that words have no times; see --lang" in said
    assert not (tmp_path / "hyp.ctm").exists() and not (tmp_path / "nbest.json").exists()
    said = decode(folder, tmp_path, "--rescore-arpa", folder / "bi.arpa", graph="bare")
    assert "no such word graph, whose costs are to be replaced" in said
    options = ("--rescore-arpa", folder / "bi.arpa", "--lang", folder / "graph")
    assert not decode(folder, tmp_path, *options, graph="bare").startswith("error")
    assert (tmp_path / "hyp.ctm").exists()


def test_options_that_fit_nothing_are_refused(folder: Path, tmp_path: Path) -> None:
    assert "--lm-scale is 0.5, but there is no --rescore-lm" in decode(folder, tmp_path, "--lm-scale", 0.5)
    assert "lattice beam 0.0: expected above 0" in decode(folder, tmp_path, "--lattice-beam", 0)
