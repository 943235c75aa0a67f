"""Phones and words of an alignment: spans, confidences and goodness of pronunciation, worked out by hand."""

import re
from pathlib import Path

import numpy as np
import pytest

from asr_bn.data.kaldi_system import KaldiSystem, require_system
from asr_bn.decoding.alignment import hmm_graph, lexicon
from asr_bn.decoding.alignment.aligner import Aligner, AlignOptions
from asr_bn.decoding.alignment.fit import Report
from asr_bn.decoding.alignment.lexicon import Pronunciations
from asr_bn.decoding.alignment.phone_classes import PhoneClasses
from asr_bn.decoding.alignment.pronunciation import score_segments
from asr_bn.decoding.alignment.result import AlignedUtterance, AlignedWord, FrameTimes
from tests.helpers.alignment import dict_dir, make_aligner
from tests.helpers.kaldi_fixtures import SYNTHETIC

ALI, PHONES = SYNTHETIC / "ali", SYNTHETIC / "ali/phones.txt"


def test_phones_words_and_transition_ids_tell_the_same(tmp_path: Path) -> None:
    folder = dict_dir(tmp_path / "dict", "a 1.0 AE_S\nadd 1.0 AE_B D_E\n")
    aligner = make_aligner(folder, ALI, PHONES, AlignOptions(1.0, 0.0, 1e6, 1e6))
    model, names = aligner.builder.model, {number: name for name, number in aligner.lexicon.phone_ids.items()}
    for seed in range(4):
        logits = 2 * np.random.default_rng(seed).normal(size=(60, model.num_pdfs)).astype(np.float32)
        aligned = aligner.align(
            "utt", ["add", "a", "add"], logits - np.log(np.exp(logits).sum(1, keepdims=True))
        )
        frames = [names[phone] for phone in model.tid_to_phone[aligned.transition_ids]]
        spans = [name for phone in aligned.phones for name in [phone.phone] * phone.num_frames]
        assert frames == spans
        spoken = [phone for phone in aligned.phones if phone.phone != "SIL"]
        assert [phone.phone for phone in spoken] == ["AE_B", "D_E", "AE_S", "AE_B", "D_E"]
        assert [phone.word for phone in spoken] == [0, 0, 1, 2, 2]
        assert [phone.name for phone in spoken] == ["AE", "D", "AE", "AE", "D"]
        for word, first, last in zip(aligned.words, (0, 2, 3), (1, 2, 4), strict=True):
            assert (word.start, word.end) == (spoken[first].start, spoken[last].end)
        weights = np.array([phone.num_frames for phone in spoken])
        mean = np.average([phone.confidence for phone in spoken], weights=weights)
        assert aligned.confidence == pytest.approx(mean)


def test_segments_averages_are_those_of_their_frames() -> None:
    """Two phones share the second of three pdfs, a quarter and three quarters of it."""
    shares = np.array([[1, 0], [0.25, 0.75], [0, 1]], dtype=np.float32)
    classes = PhoneClasses(("A", "B"), {1: 0, 2: 1}, shares)
    pdfs = np.array([[0.8, 0.2, 0.0], [0.2, 0.4, 0.4], [0.1, 0.8, 0.1]], dtype=np.float32)
    phones = np.array([[0.85, 0.15], [0.3, 0.7], [0.3, 0.7]])
    with np.errstate(divide="ignore"):
        log_posteriors = np.log(pdfs)
    for block in (1, 2, 100):
        starts, own = np.array([0, 2]), np.array([0, 1])
        scores = score_segments(log_posteriors, classes, starts, own, silence=1, block_frames=block)
        assert scores.posteriors == pytest.approx([(0.85 + 0.3) / 2, 0.7])
        expected = [np.log(phones[:2]).mean(0), np.log(phones[2])]
        np.testing.assert_allclose(scores.log_posteriors, expected, rtol=1e-5)
        assert scores.speech == pytest.approx(1 / 3)


def test_phone_classes_fold_places_and_share_as_the_training_alignments() -> None:
    system = require_system(ALI)
    classes, model = PhoneClasses.of(system), system.transition_model()
    assert "AE" in classes.names and "AE_B" not in classes.names
    frames = np.zeros((72, len(classes.names)))
    for tid in range(1, model.num_transition_ids + 1):
        name = system.phone_names[int(model.tid_to_phone[tid])].split("_")[0]
        assert classes.names[classes.of_phone[int(model.tid_to_phone[tid])]] == name
        frames[model.tid_to_pdf[tid], classes.names.index(name)] += system.tid_counts[tid]
    seen = frames.sum(1) > 200  # half a frame is added for every phone
    expected = frames[seen] / frames[seen].sum(1, keepdims=True)
    np.testing.assert_allclose(classes.shares[seen], expected, atol=0.05)
    np.testing.assert_allclose(classes.shares.sum(1), 1, rtol=1e-6)


def test_goodness_is_how_far_a_phone_is_below_the_one_that_is_heard(tmp_path: Path) -> None:
    aligner = make_aligner(dict_dir(tmp_path / "dict", "a 1.0 AE_S\n"), ALI, PHONES)
    tree = aligner.builder.tree
    assert tree is not None
    sil, ae, ey = (aligner.lexicon.phone_ids[name] for name in ("SIL", "AE_S", "EY_S"))
    posteriors = np.full((9, 72), 0.3 / 72)
    for k in range(9):  # the vowel's three states, and more of another one's
        for phone, share in ((ae, 0.2), (ey, 0.5)):
            pdf = tree.pdf_id((0, phone, 0), k // 3)
            assert pdf is not None and sil
            posteriors[k, pdf] += share
    aligned = aligner.align("utt", ["a"], np.log(posteriors).astype(np.float32))
    (vowel,) = aligned.phones
    classes = dict(
        zip(aligner.scorer.classes.names, (posteriors @ aligner.scorer.classes.shares).T, strict=True)
    )
    means = {name: np.log(values).mean() for name, values in classes.items()}
    assert vowel.heard == max(means, key=means.__getitem__) != "AE"
    assert vowel.log_posterior == pytest.approx(means["AE"], rel=1e-4)
    assert vowel.goodness == pytest.approx(means["AE"] - means[vowel.heard], rel=1e-4)
    assert vowel.confidence == pytest.approx(classes["AE"].mean(), rel=1e-4)


def test_what_is_remembered_from_text_to_text_has_a_bound_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dict_dir(tmp_path / "dict", "a 1.0 AE_S\nadd 1.0 AE_B D_E\n")
    scores = np.random.default_rng(0).normal(size=(60, 72)).astype(np.float32)
    texts = (["add", "a"], ["a", "add", "add"], ["add", "a"])
    aligner = make_aligner(folder, ALI, PHONES)
    expected = [aligner.align("utt", text, scores).transition_ids for text in texts]
    monkeypatch.setattr(hmm_graph, "_MOST_WINDOWS", 0)
    monkeypatch.setattr(lexicon, "_MOST_KNOWN", 3)
    forgetful = make_aligner(folder, ALI, PHONES)
    for text, transition_ids in zip(texts, expected, strict=True):
        np.testing.assert_array_equal(forgetful.align("utt", text, scores).transition_ids, transition_ids)
        assert len(forgetful.lexicon._known_arcs) <= 4 < len(aligner.lexicon._known_arcs)
    assert len(forgetful.builder._windows) < len(aligner.builder._windows)


def test_times_are_midway_between_the_centres_of_windows() -> None:
    snipped, centred = FrameTimes(0.01, 0.025, True), FrameTimes(0.01, 0.025, False)
    # Frame 2 has its centre at 0.0325 s and frame 3 at 0.0425 s; ten frames last to 0.115 s.
    assert [snipped.boundary(frame, 10) for frame in (0, 3, 10)] == pytest.approx([0.0, 0.0375, 0.115])
    assert [centred.boundary(frame, 10) for frame in (0, 3, 10)] == pytest.approx([0.0, 0.03, 0.1])


@pytest.mark.parametrize(
    ("confidences", "silence", "speech", "said"),
    [
        ((0.9, 0.8), 0.9, 0.8, None),
        ((0.9, 0.8), 0.9, 0.01, r"no speech is heard in it \(1\.0 % of its frames\)"),
        ((0.5, 0.3), 0.9, 0.8, "its text fits badly: confidence 0.400 of its words"),
        ((0.9, 0.9, 0.08), 0.9, 0.8, "1 of its 3 words, such as 'w2', have a confidence below 0.100"),
        ((0.9, 0.8), 0.2, 0.8, "more is spoken than its text has: confidence 0.200 of the silence"),
    ],
)
def test_utterances_that_fit_badly_are_told_with_their_score(
    confidences: tuple[float, ...], silence: float, speech: float, said: str | None
) -> None:
    words = [AlignedWord(f"w{k}", k, k + 1, value) for k, value in enumerate(confidences)]
    tids = np.ones(2, dtype=np.int32)
    report = Report(least_confidence=0.5)
    report.judge(AlignedUtterance("utt", tids, [], words, -1.0, float(np.mean(confidences)), silence, speech))
    assert list(report.poor) == ([] if said is None else ["utt"])
    if said is not None:
        assert re.search(said, report.poor["utt"])
        assert report.poor["utt"].startswith(f"{np.mean(confidences):.3f} ")


def test_a_lexicon_or_a_system_of_another_model_is_refused(tmp_path: Path) -> None:
    lexicon = Pronunciations.read(dict_dir(tmp_path / "dict", "a 1.0 AE_S\n"), PHONES)
    system = KaldiSystem.read(ALI / "final.mdl", PHONES, ALI / "tree")
    with pytest.raises(
        ValueError, match="the transition model has 72 pdfs, the network 20: it is of another"
    ):
        Aligner.of(lexicon, system, np.zeros(20, dtype=np.float32), AlignOptions())
    (tmp_path / "phones.txt").write_text(PHONES.read_text() + "XX 999\n")
    (tmp_path / "dict/lexiconp.txt").write_text("a 1.0 XX\n")
    other = Pronunciations.read(tmp_path / "dict", tmp_path / "phones.txt")
    with pytest.raises(ValueError, match="has the phone XX, which the transition model lacks"):
        Aligner.of(other, system, np.zeros(72, dtype=np.float32), AlignOptions())
    without_tree = KaldiSystem.read(ALI / "final.mdl", PHONES, tmp_path / "none")
    with pytest.raises(ValueError, match="its pdfs depend on the context of a phone"):
        Aligner.of(lexicon, without_tree, np.zeros(72, dtype=np.float32), AlignOptions())
    (tmp_path / "tree").write_text("ContextDependency 3 1 ToPdf CE 5 EndContextDependency ")
    other_tree = KaldiSystem.read(ALI / "final.mdl", PHONES, tmp_path / "tree")
    aligner = Aligner.of(lexicon, other_tree, np.zeros(72, dtype=np.float32), AlignOptions())
    with pytest.raises(ValueError, match="the pdf 5, and .* never: they are not of one system"):
        aligner.align("utt", ["a"], np.zeros((50, 72), dtype=np.float32))
    with pytest.raises(ValueError, match="beam is 0, expected above 0"):
        AlignOptions(beam=0)
