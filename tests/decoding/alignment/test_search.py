"""Alignments against a Viterbi search over every way to say a text, and against Kaldi's own best paths."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr_bn.decoding.alignment import viterbi
from asr_bn.decoding.alignment.aligner import Aligner, AlignOptions
from asr_bn.decoding.alignment.viterbi import best_path
from asr_bn.decoding.lexicon_fst import Lexicon
from asr_bn.kaldi_io.int_vector_table import read_int_vectors
from asr_bn.kaldi_io.matrix_table import read_matrices
from asr_bn.kaldi_io.script_file import read_table
from asr_bn.system.arrays import Floats
from tests.helpers.alignment import EXACT, dict_dir, graph_of, make_aligner
from tests.helpers.graph_costs import Sentences
from tests.helpers.graphs import lexicon_dir
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd

# "a" begins "add" and has two pronunciations, the second one half as likely.
LEXICON = "a 1.0 AE_S\na 0.5 EY_S\nadd 1.0 AE_B D_E\nto 1.0 T_B UW_E\ntwo 0.7 T_B UW_E\n"
# System, and whether its pdfs depend on the context: the chain model's self-loops have pdfs of their own.
SYSTEMS = {"mono": "variants/mono", "triphone": "ali", "chain": "variants/chain"}


@pytest.fixture(params=SYSTEMS)
def aligner(request: pytest.FixtureRequest, tmp_path: Path) -> Aligner:
    folder = SYNTHETIC / SYSTEMS[request.param]
    return make_aligner(dict_dir(tmp_path / "dict", LEXICON), folder, SYNTHETIC / "ali/phones.txt")


def random_scores(aligner: Aligner, num_frames: int, seed: int) -> Floats:
    size = (num_frames, aligner.builder.model.num_pdfs)
    return (3 * np.random.default_rng(seed).normal(size=size)).astype(np.float32)


def brute_force(aligner: Aligner, words: str, scores: Floats, folder: Path) -> float:
    """The cost of the best of all pronunciations and silences, worked out without a graph.

    `Sentences` has a state's self-loops before the transition that leaves it, graphs have them after it.
    That makes no difference unless they have pdfs of their own; then all is turned back to front.
    """
    lexicon = Lexicon.read(folder / "dict", SYNTHETIC / "ali/phones.txt")
    if aligner.builder.hmms.topology[1][0].self_loop_pdf_class != 0:
        entries = [(word, probability, phones[::-1]) for word, probability, phones in lexicon.entries]
        lexicon, words, scores = replace(lexicon, entries=entries), words[::-1], scores[::-1]
        words = " ".join(word[::-1] for word in words.split())
    sentences = Sentences(lexicon, SYNTHETIC / "ali/final.mdl", None)
    sentences.hmms, sentences.model = aligner.builder.hmms, aligner.builder.model
    sentences.tree = aligner.builder.tree
    half = math.log(2)
    return sentences.cost(words.split(), -scores, lambda _, silences: len(silences) * half)


@pytest.mark.parametrize(("words", "num_frames"), [("a", 8), ("add", 6), ("a to", 17), ("two a add", 30)])
def test_the_best_path_is_the_best_of_all(
    aligner: Aligner, tmp_path: Path, words: str, num_frames: int
) -> None:
    graph = graph_of(aligner, words)
    for seed in range(3):
        scores = random_scores(aligner, num_frames, seed)
        path = best_path(graph, num_frames, lambda start, end, s=scores: s[start:end], 1e6)
        assert path is not None
        assert path.log_likelihood == pytest.approx(-brute_force(aligner, words, scores, tmp_path), abs=1e-3)
        # The path says what it costs: its transition-ids score what the frames give their pdfs.
        tids = path.transition_ids(graph)
        pdfs = aligner.builder.model.tid_to_pdf[tids]
        assert np.array_equal(pdfs, graph.pdfs[path.nodes])


def test_frames_that_are_too_few_are_told_with_the_least_number(aligner: Aligner) -> None:
    least = graph_of(aligner, "a to").least_frames()
    assert aligner.align("utt", ["a", "to"], random_scores(aligner, least, 0)).num_frames == least
    with pytest.raises(
        ValueError, match=f"its text takes {least} frames at least, and its audio has {least - 1}"
    ):
        aligner.align("utt", ["a", "to"], random_scores(aligner, least - 1, 0))


def test_pieces_pruning_and_forgetting_change_nothing(
    aligner: Aligner, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_of(aligner, "two a add to " * 12)
    scores = random_scores(aligner, 700, 1)
    likely = best_path(graph, 700, lambda start, end: scores[start:end], 1e6)
    assert likely is not None
    scores[np.arange(700), graph.pdfs[likely.nodes]] += 5  # as real scores: others soon fall behind
    expected = best_path(graph, 700, lambda start, end: scores[start:end], 1e6)
    assert expected is not None
    forgotten = []
    forget = viterbi._Trellis.forget

    def spy(self: viterbi._Trellis, nodes: np.ndarray, frame: int) -> None:
        forget(self, nodes, frame)
        forgotten.append(self._num_known)

    monkeypatch.setattr(viterbi._Trellis, "forget", spy)
    for chunk, most_scores, beam in ((1, 1 << 24, 100.0), (7, 5000, 100.0), (64, 9000, 150.0)):
        monkeypatch.setattr(viterbi, "CHUNK_FRAMES", chunk)
        monkeypatch.setattr(viterbi, "MAX_SCORES", most_scores)
        path = best_path(graph, 700, lambda start, end: scores[start:end], beam)
        assert path is not None and np.array_equal(path.nodes, expected.nodes)
        assert path.log_likelihood == pytest.approx(expected.log_likelihood, rel=1e-5)
    assert max(forgotten) > 100


def test_a_beam_that_loses_the_end_is_tried_again_wider(tmp_path: Path) -> None:
    folder, ali = dict_dir(tmp_path / "dict", LEXICON), SYNTHETIC / "variants/mono"
    scores = random_scores(make_aligner(folder, ali, SYNTHETIC / "ali/phones.txt"), 300, 2)
    narrow = AlignOptions(1.0, 0.0, beam=0.01, retry_beam=0.02)
    aligner = make_aligner(folder, ali, SYNTHETIC / "ali/phones.txt", narrow)
    with pytest.raises(ValueError, match=r"its text has no path within a beam of 0\.02$"):
        aligner.align("utt", ["add"] * 20, scores)
    wider = AlignOptions(1.0, 0.0, beam=0.01, retry_beam=1e6)
    found = make_aligner(folder, ali, SYNTHETIC / "ali/phones.txt", wider).align("utt", ["add"] * 20, scores)
    exact = make_aligner(folder, ali, SYNTHETIC / "ali/phones.txt", EXACT).align("utt", ["add"] * 20, scores)
    assert np.array_equal(found.transition_ids, exact.transition_ids)


def test_the_alignment_of_the_decoded_words_is_kaldis_best_path(tmp_path: Path) -> None:
    """``latgen-faster-mapped`` and ``lattice-best-path`` at the acoustic scale 0.1."""
    oracles = SYNTHETIC / "oracles/decode"
    words = read_table(oracles / "acwt0.1.words.txt")
    expected = dict(read_int_vectors(f"ark,t:{oracles / 'acwt0.1.tid.txt'}"))
    options = AlignOptions(acoustic_scale=0.1, prior_scale=0.0)
    aligner = make_aligner(
        lexicon_dir(tmp_path / "dict"), SYNTHETIC / "ali", SYNTHETIC / "ali/phones.txt", options
    )
    for utt_id, scores in read_matrices(f"ark:{oracles / 'loglikes.ark'}"):
        aligned = aligner.align(utt_id, words[utt_id].split(), np.asarray(scores, dtype=np.float32))
        assert np.array_equal(aligned.transition_ids, expected.pop(utt_id)), utt_id
    assert not expected


@needs_fsdd
def test_real_digits_are_aligned_as_kaldi_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FSDD)
    ali, hybrid = FSDD / "exp/tri4b_ali_dev", FSDD / "oracles/hybrid"
    text = read_table(FSDD / "data/dev/text")
    expected = dict(read_int_vectors(f"ark,t:{hybrid / 'dev3.bestpath_tid.txt'}"))
    options = AlignOptions(acoustic_scale=0.1, prior_scale=0.0)
    aligner = make_aligner(FSDD / "data/lang", ali, ali / "phones.txt", options)
    for utt_id, scores in read_matrices("scp:oracles/hybrid/dev3.loglikes.scp"):
        aligned = aligner.align(utt_id, text[utt_id].split(), np.asarray(scores, dtype=np.float32))
        assert np.array_equal(aligned.transition_ids, expected.pop(utt_id)), utt_id
    assert not expected
