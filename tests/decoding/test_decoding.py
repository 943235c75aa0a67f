"""Decoding against Kaldi's own decoder (latgen-faster-mapped, lattice-best-path), and its error counts."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from asr_bn.decoding.fst_file import FstArrays
from asr_bn.decoding.graph import DecodingGraph, find_transition_model
from asr_bn.decoding.references import count_errors
from asr_bn.decoding.search_options import BeamOptions, ScoreWeights
from asr_bn.decoding.tuning import best_weights
from asr_bn.decoding.word_errors import WordErrors, count_word_errors
from asr_bn.decoding.workers import SearchJob, decode_all
from asr_bn.kaldi_io.int_vector_table import read_int_vectors
from asr_bn.kaldi_io.matrix_table import read_matrices
from asr_bn.scoring.corpus import Scores
from tests.helpers.beam_search import NOTHING, BeamSearch, Hypothesis
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd

pytest.importorskip("kaldi_decoder")
kaldifst = pytest.importorskip("kaldifst")

ORACLES = SYNTHETIC / "oracles" / "decode"
GRAPH, MDL = SYNTHETIC / "graph", SYNTHETIC / "ali" / "final.mdl"


def table(path: Path) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in path.read_text().splitlines()}


@pytest.fixture(scope="module")
def graph():
    return DecodingGraph.load(GRAPH, MDL)


@pytest.fixture(scope="module")
def scores():
    return dict(read_matrices(f"ark:{ORACLES / 'loglikes.ark'}"))


@pytest.mark.parametrize("scale", ["0.1", "0.0833"])
def test_words_best_path_and_costs_are_kaldis(graph, scores, scale):
    search = BeamSearch(graph, BeamOptions())
    words, tids, costs = (table(ORACLES / f"acwt{scale}.{kind}.txt") for kind in ("words", "tid", "costs"))
    for utt_id, log_likelihoods in scores.items():
        path = search.decode(log_likelihoods, float(scale))
        assert list(path.words) == words[utt_id]
        assert [str(tid) for tid in path.transition_ids] == tids[utt_id]
        expected = [float(cost) for cost in costs[utt_id]]
        # Kaldi writes 7 digits.
        np.testing.assert_allclose([path.graph_cost, path.acoustic_cost], expected, rtol=1e-6)
        assert path.is_complete


def test_the_pieces_of_an_utterance_give_its_path(graph, scores):
    search = BeamSearch(graph, BeamOptions())
    whole = scores["f2-008"]
    expected = search.decode(whole, 0.1)
    path = search.decode_blocks(np.split(whole, [1, 13, 60]), [ScoreWeights(0.1)])[0]
    assert path.words == expected.words
    assert np.array_equal(path.transition_ids, expected.transition_ids)


def test_several_processes_give_what_one_gives(scores):
    job = SearchJob(GRAPH, MDL, BeamOptions())
    weights = [ScoreWeights(0.1), ScoreWeights(0.3, 1.0)]
    items = [Scores(utt_id, len(rows), [rows]) for utt_id, rows in scores.items()]
    items[1] = Scores(items[1].utt_id, items[1].num_frames, np.split(items[1].matrix(), [20]), is_long=True)
    one, two = (list(decode_all(job, items, weights, jobs)) for jobs in (1, 2))
    assert [utt_id for utt_id, _ in two] == list(scores)
    for (_, expected), (_, found) in zip(one, two, strict=True):
        assert found.words == expected.words
        assert found.lattice.rows() == expected.lattice.rows()


def test_no_frames_and_too_few_frames(graph, scores):
    search = BeamSearch(graph, BeamOptions())
    assert search.decode(np.zeros((0, 72), dtype=np.float32), 0.1) == NOTHING
    one_frame = search.decode(scores["f2-008"][:1], 0.1)
    assert not one_frame.is_complete
    assert len(one_frame.transition_ids) == 1


@needs_fsdd
def test_real_digits_through_kaldis_graph():
    search = BeamSearch(DecodingGraph.load(FSDD / "exp/tri4b/graph"), BeamOptions())
    words = table(FSDD / "oracles/hybrid/dev.hyp_acwt0.1.txt")
    tids = table(FSDD / "oracles/hybrid/dev3.bestpath_tid.txt")
    for utt_id, log_likelihoods in read_matrices(f"ark:{FSDD / 'oracles/hybrid/dev3.loglikes.ark'}"):
        path = search.decode(log_likelihoods, 0.1)
        assert list(path.words) == words[utt_id]
        assert [str(tid) for tid in path.transition_ids] == tids[utt_id]


@needs_fsdd
def test_errors_are_counted_as_compute_wer_does():
    folder = FSDD / "oracles/decode/mono"
    references, hypotheses = table(FSDD / "data/dev/text"), table(folder / "hyp.txt")
    paths = {
        utt_id: Hypothesis(tuple(words), np.zeros(0, np.int32), 0.0, 0.0, True)
        for utt_id, words in hypotheses.items()
    }
    assert (
        str(count_errors(references, {utt_id: path.words for utt_id, path in paths.items()}))
        in (folder / "wer.txt").read_text()
    )


def test_errors_of_a_hand_worked_case():
    errors = count_word_errors(["a", "b", "c"], ["a", "x", "c", "d"])
    assert errors == WordErrors(insertions=1, deletions=0, substitutions=1, num_words=3)
    assert str(errors + WordErrors(0, 1, 0, 1)) == "%WER 75.00 [ 3 / 4, 1 ins, 1 del, 1 sub ]"
    assert count_word_errors(["a", "b"], []) == WordErrors(deletions=2, num_words=2)


def test_the_weights_with_the_fewest_errors_win_and_of_equals_those_nearest_a_tenth():
    two, one = WordErrors(2, 0, 0, 9), WordErrors(1, 0, 0, 9)
    errors = {
        ScoreWeights(0.05): two,
        ScoreWeights(0.2): one,
        ScoreWeights(0.09, 1.0): one,
        ScoreWeights(0.09, 0.5): one,
    }
    assert best_weights(errors) == ScoreWeights(0.09, 0.5)


def test_a_word_penalty_is_the_cost_of_every_word(graph, scores):
    """Each path is the best of all under its own weights; its costs are told without the penalty."""
    options = BeamOptions(beam=1000.0, max_active=1_000_000)
    search, log_likelihoods = BeamSearch(graph, options), scores["f2-008"]
    weights = [ScoreWeights(0.1, penalty) for penalty in (-30.0, 0.0, 0.5, 30.0)]
    paths = search.decode_blocks([log_likelihoods], weights)
    assert paths[1].words == search.decode(log_likelihoods, 0.1).words
    lengths = [len(path.words) for path in paths]
    assert lengths == sorted(lengths, reverse=True) and lengths[0] > lengths[-1]
    for chosen, weight in zip(paths, weights, strict=True):
        totals = [
            path.graph_cost + 0.1 * path.acoustic_cost + weight.word_penalty * len(path.words)
            for path in paths
        ]
        best = chosen.graph_cost + 0.1 * chosen.acoustic_cost + weight.word_penalty * len(chosen.words)
        assert best <= min(totals) + 1e-3


def test_const_and_vector_files_hold_the_graph_that_kaldi_wrote(tmp_path):
    original = FstArrays.read(GRAPH / "HCLG.fst.gz")
    assert (len(original.finals), len(original.arcs)) == (1343, 3093)  # of the fixtures' README
    original.write_const(tmp_path / "const.fst")
    ours, theirs = (
        (tmp_path / "const.fst").read_bytes(),
        gzip.decompress((GRAPH / "HCLG.fst.gz").read_bytes()),
    )
    assert ours[65:] == theirs[65:]  # all but the header, whose property bits we leave to be found
    (tmp_path / "vector.fst").write_bytes(original.vector_bytes())
    vector = kaldifst.StdVectorFst.read(str(tmp_path / "vector.fst"))
    assert vector.num_states == 1343
    vector.write(str(tmp_path / "again.fst"))
    again = FstArrays.read(tmp_path / "again.fst")
    assert np.array_equal(again.arcs, original.arcs)
    assert np.array_equal(again.finals, original.finals)
    assert np.array_equal(again.first_arcs, original.first_arcs)


@pytest.mark.parametrize("length", [0, 3, 30, 64, 70, 5000, 76000])
def test_a_truncated_graph_is_refused(tmp_path, length):
    (tmp_path / "HCLG.fst").write_bytes(gzip.decompress((GRAPH / "HCLG.fst.gz").read_bytes())[:length])
    with pytest.raises(ValueError, match=r"HCLG\.fst: (not an OpenFst file|cut short)"):
        FstArrays.read(tmp_path / "HCLG.fst")


def test_a_truncated_gzip_file_of_a_graph_is_refused(tmp_path):
    (tmp_path / "HCLG.fst.gz").write_bytes((GRAPH / "HCLG.fst.gz").read_bytes()[:9000])
    with pytest.raises(ValueError, match=r"HCLG\.fst\.gz: gzip file cut short or corrupt"):
        FstArrays.read(tmp_path / "HCLG.fst.gz")


def test_a_graph_of_another_model_is_refused():
    with pytest.raises(
        ValueError, match=r"transition-id \d+, but .*|num_pdfs: says 72.*a graph of another model"
    ):
        DecodingGraph.load(GRAPH, SYNTHETIC / "variants/mono/final.mdl")
    with pytest.raises(ValueError, match="72 pdfs, m.onnx has 20: a graph of another model"):
        SearchJob(GRAPH, MDL, BeamOptions()).check(20, Path("m.onnx"))


def test_final_mdl_is_found_in_beside_or_among_the_alignments(tmp_path):
    graph_dir = tmp_path / "exp/tri4b/graph"
    graph_dir.mkdir(parents=True)
    with pytest.raises(ValueError, match="no final.mdl in or beside it; name it with --mdl"):
        find_transition_model(graph_dir)
    ali = tmp_path / "exp/tri4b_ali_train"
    ali.mkdir()
    shutil.copy(MDL, ali / "final.mdl")
    assert find_transition_model(graph_dir) == ali / "final.mdl"
    shutil.copy(MDL, graph_dir.parent / "final.mdl")
    assert find_transition_model(graph_dir) == graph_dir.parent / "final.mdl"


def test_scores_of_another_width_are_refused(graph):
    with pytest.raises(ValueError, match=r"shape \[3, 20\], expected \[num_frames, 72\]"):
        BeamSearch(graph, BeamOptions()).decode(np.zeros((3, 20), dtype=np.float32), 0.1)
    with pytest.raises(ValueError, match="not finite"):
        BeamSearch(graph, BeamOptions()).decode(np.full((3, 72), np.nan, dtype=np.float32), 0.1)


def test_the_command_writes_words_paths_and_errors(tmp_path):
    """The network is random: what is checked is that the files fit each other and the reference."""
    from asr_bn.cli.main import app
    from tests.helpers.serving import write_model

    model = write_model(tmp_path / "model.onnx", num_pdfs=72)
    data = tmp_path / "data"
    data.mkdir()
    (data / "wav.scp").write_text("".join(f"{u} {SYNTHETIC}/audio/{u}.wav\n" for u in ("f1-015", "f2-008")))
    (data / "text").write_text("f1-015 bring my chair\nf2-008 bring the chair\n")
    arguments = [str(model), str(GRAPH), str(data), str(tmp_path / "out"), "--mdl", str(MDL), "--nj", "1"]
    result = CliRunner().invoke(app, ["decode", *arguments, "--device", "cpu"], catch_exceptions=False)
    assert result.exit_code == 0
    summary = json.loads((tmp_path / "out/decode.json").read_text())
    errors = count_errors(table(data / "text"), table(tmp_path / "out/hyp.txt"))
    assert (summary["errors"], summary["words"]) == (errors.total, 6)
    assert (tmp_path / "out/wer.txt").read_text() == f"{errors}\n" == result.stdout
    assert min(summary["wer_by_scale"].values()) == summary["wer"]
    assert {u: len(tids) for u, tids in read_int_vectors(f"ark:{tmp_path}/out/ali.ark")} == {
        "f1-015": 89,
        "f2-008": 95,
    }


def test_the_scale_of_development_data_is_taken_for_other_data(tmp_path):
    from asr_bn.cli.main import app
    from tests.helpers.serving import write_model

    model = write_model(tmp_path / "model.onnx", num_pdfs=72)
    for name, utt_id in (("dev", "f1-015"), ("test", "f2-008")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "wav.scp").write_text(f"{utt_id} {SYNTHETIC}/audio/{utt_id}.wav\n")
    arguments = [
        "decode",
        str(model),
        str(GRAPH),
        str(tmp_path / "test"),
        str(tmp_path / "out"),
        "--mdl",
        str(MDL),
    ]
    arguments += ["--nj", "1", "--device", "cpu", "--tune-data", str(tmp_path / "dev")]
    with pytest.raises(ValueError, match="has no text to tune"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    (tmp_path / "dev/text").write_text("f1-015 bring my chair\n")
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    summary = json.loads((tmp_path / "out/decode.json").read_text())
    assert summary["tuned_on"] == str(tmp_path / "dev")
    assert "wer" not in summary  # the test data have no text
    best = min(summary["wer_by_scale"].values())
    assert summary["wer_by_scale"][f"{summary['acoustic_scale']:.4f}"] == best


@needs_fsdd
def test_a_folder_of_another_corpus_is_told_apart(tmp_path):
    from tests.helpers.serving import write_model

    model = write_model(tmp_path / "model.onnx", num_pdfs=72)
    with pytest.raises(ValueError, match="96 pdfs, .* has 72: a graph of another model"):
        SearchJob(FSDD / "exp/tri4b/graph", None, BeamOptions()).check(72, model)
