"""Scoring as ``steps/score_kaldi.sh`` does it: filters of both sides, then ``compute-wer --mode=present``.

Counts are worked out by hand; the rules of Kaldi's WSJ filter are written out here once more.
"""

import json
import random
from pathlib import Path

import pytest

from asr_bn.decoding.choice import AnswerOptions, Choice
from asr_bn.decoding.corpus import DecodedCorpus
from asr_bn.decoding.folder import write_folder
from asr_bn.decoding.references import References, WerFilter, count_errors, run_filter
from asr_bn.decoding.search_options import ScoreWeights
from asr_bn.decoding.word_errors import WordErrors
from asr_bn.kaldi_io.lattice_table import open_lattice_archive
from tests.helpers.lattices import chain

RECIPE_FILTER = Path(__file__).parents[2] / "recipes/wsj/local/wer_output_filter"
# egs/wsj/s5/local/wer_output_filter as rules from text to text.
WSJ_RULES = {
    "<NOISE>": "",
    "<SPOKEN_NOISE>": "",
    "<UNK>": "",
    ":": "",
    "*": "",
    "-HOLDER": "HOLDER",
    "COMPAIGN": "CAMPAIGN",
    "APPROACHES-": "APPROACHES",
    "RESEACHERS": "RESEARCHERS",
}


def sed_rules() -> str:
    return "".join(f"s|{old.replace('*', chr(92) + '*')}|{new}|g\n" for old, new in WSJ_RULES.items())


def write(path: Path, text: str, mode: int = 0o644) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def by_rules(line: str) -> list[str]:
    for old, new in WSJ_RULES.items():
        line = line.replace(old, new)
    return line.split()


@pytest.mark.parametrize(
    ("head", "tail", "mode"),
    [
        ("#!/usr/bin/env sed -f\n", "", 0o755),  # as Kaldi's, which Linux cannot start
        ("#!/usr/bin/env sed -f\n", "", 0o644),
        ("#!/bin/sed -f\n", "", 0o755),
        ("#!/no/such/folder/sed -f\n", "", 0o755),
        ("#!/usr/bin/env -S sed -f\n", "", 0o755),
        ("#!/usr/bin/env bash\nsed '\n", "'\n", 0o755),  # as Kaldi's wer_ref_filter
        ("sed '\n", "'\n", 0o755),
        ("", "", 0o644),
    ],
)
def test_filters_run_in_every_form_that_they_have(tmp_path: Path, head: str, tail: str, mode: int) -> None:
    path = write(tmp_path / "wer_output_filter", head + sed_rules() + tail, mode)
    words = {"u1": ["<NOISE>", "THE", "RATE", "IS", "*FOUR*"], "u2": ["<UNK>"], "u3": []}
    expected = {"u1": ["THE", "RATE", "IS", "FOUR"], "u2": [], "u3": []}
    assert run_filter(path, words) == expected


def test_the_recipes_filter_does_what_kaldis_does() -> None:
    rng = random.Random(0)
    parts = [*WSJ_RULES, "THE", "A:B", "*FOUR*", "PLACE-HOLDER", "<NOISE", "NOISE>", "SPOKEN_NOISE", "ÄRGER"]
    words = {
        f"4k0c030{k}": ["".join(rng.choices(parts, k=rng.randint(1, 3))) for _ in range(6)]
        for k in range(300)
    }
    expected = {u: by_rules(" ".join(line)) for u, line in words.items()}
    assert run_filter(RECIPE_FILTER, words) == expected


def test_words_that_scoring_leaves_out_are_no_errors(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("u1 <NOISE> THE RATE IS *FOUR*\nu2 :COLON COMPAIGN <SPOKEN_NOISE>\n")
    hypotheses = {"u1": ["THE", "RATE", "IS", "FOUR"], "u2": ["COLON", "CAMPAIGN", "FOR", "<UNK>"]}
    plain = References.read(tmp_path, ["u1"])
    scored = References.read(tmp_path, ["u1"], WerFilter.find(RECIPE_FILTER))
    assert plain is not None and scored is not None
    # By hand: <NOISE> deleted, *FOUR* substituted; all of u2 substituted, and one word inserted.
    assert plain.errors(hypotheses) == WordErrors(1, 1, 4, 8)
    assert str(scored.errors(hypotheses)) == "%WER 16.67 [ 1 / 6, 1 ins, 0 del, 0 sub ]"


def test_a_folder_has_kaldis_names_and_their_order(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no wer_output_filter"):
        WerFilter.find(tmp_path)
    both = write(tmp_path / "wer_output_filter", "s/x/y/\n")
    assert WerFilter.find(tmp_path) == WerFilter(both, both)
    references = write(tmp_path / "wer_ref_filter", "s/x/z/\n")
    assert WerFilter.find(tmp_path) == WerFilter(references, both)
    hypotheses = write(tmp_path / "wer_hyp_filter", "s/x/z/\n")
    assert WerFilter.find(tmp_path) == WerFilter(references, hypotheses)
    with pytest.raises(FileNotFoundError, match="no such filter"):
        WerFilter.find(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "#!/bin/sh\necho 'no such thing' >&2; exit 3\n",
            "the filter failed with exit code 3: no such thing",
        ),
        ("#!'\n", "cannot be used as a filter of words"),
        ("#!/usr/bin/env\nexit 3\n", "the filter failed with exit code"),
        ("#!\nexit 3\n", "the filter failed with exit code 3"),
        ("s/.*//\n", "the filter changes utterance ids: none is left"),
        ("s/u1/v1/\n", "the filter changes utterance ids: 'v1' is none"),
        ("s/unended\n", "the filter failed with exit code 1: "),
        ("#!/no/such/program\n", "cannot be used as a filter of words"),
        ("#!/bin/sh\nprintf 'u1 \\377\\n'\n", "cannot be used as a filter of words"),
    ],
)
def test_a_filter_that_fails_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "filter", text)
    with pytest.raises(ValueError, match=message) as caught:
        run_filter(path, {"u1": ["a"]})
    assert str(caught.value).startswith(f"{path}: ")


def test_errors_are_printed_as_compute_wer_does() -> None:
    """The forms of ``src/bin/compute-wer.cc``: a division by no words, and utterances that are not there."""
    assert str(count_errors({"u": []}, {"u": ["a", "b"]})) == "%WER inf [ 2 / 0, 2 ins, 0 del, 0 sub ]"
    assert str(count_errors({"u": []}, {"u": []})) == "%WER nan [ 0 / 0, 0 ins, 0 del, 0 sub ]"
    partial = count_errors({"u": ["a"], "v": ["b", "c"]}, {"u": ["a"], "w": ["d"]})
    assert str(partial) == "%WER 0.00 [ 0 / 1, 0 ins, 0 del, 0 sub ] [PARTIAL]"
    with pytest.raises(ValueError, match="no decoded utterance is in the reference text"):
        count_errors({"u": []}, {"v": []})


def test_references_without_words_are_written_as_what_they_are(tmp_path: Path) -> None:
    weights = ScoreWeights(0.1)
    with open_lattice_archive(tmp_path / "lat.1.gz") as archive:
        archive.write("u", chain([1, 2], costs=(1.0, 2.0)))
    decoded = DecodedCorpus(tmp_path / "lat.1.gz", [weights], {"u": [("a", "b")]}, 0)
    options = AnswerOptions({1: "a", 2: "b"})
    choice = Choice.given(weights, options)
    _, errors = write_folder(decoded, tmp_path, References({"u": []}), choice, options, 0.01)
    assert (tmp_path / "wer.txt").read_text() == "%WER inf [ 2 / 0, 2 ins, 0 del, 0 sub ]\n" == f"{errors}\n"
    summary = json.loads((tmp_path / "decode.json").read_text())
    assert (summary["wer"], summary["errors"], summary["words"]) == (None, 2, 0)


def test_a_text_of_other_utterances_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("zzz hello\n")
    with pytest.raises(ValueError, match=r"/text: has none of the 2 utterances of "):
        References.read(tmp_path, ["u1", "u2"])
    (tmp_path / "text").unlink()
    assert References.read(tmp_path, ["u1"]) is None


def test_utterances_that_a_filter_leaves_out_are_counted_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "filter", "/^u2/d\n")
    assert run_filter(path, {"u1": ["a"], "u2": ["b"]}) == {"u1": ["a"]}
    assert capsys.readouterr().err == f"note: {path}: leaves out 1 of 2 utterances\n"
