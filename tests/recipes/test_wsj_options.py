"""Options of ``recipes/wsj/run.sh``: what is given, what follows from it, and what the shell gets of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from recipes.wsj.local import options
from recipes.wsj.local.options import RECIPE, Options, complete, parse

SCRIPT = RECIPE / "run.sh"


def test_the_defaults_are_those_of_the_help() -> None:
    text = subprocess.run(["bash", SCRIPT, "--help"], capture_output=True, text=True, check=True).stdout
    for name, value in vars(Options()).items():
        option = f"--{name.replace('_', '-')} "
        assert option in text
        assert not value or f"[{value}]" in text.partition(option)[2].replace("|cpu|cuda [", " ["), name


def test_the_last_of_two_values_counts_and_help_stops_the_reading() -> None:
    assert parse(["--seed", "007", "--out", "--help", "--seed", "010"]) == Options(seed="10", out="--help")
    assert parse(["--seed", "1", "-h", "--nonsense"]) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed=3"], "unknown option --seed=3 (see --help)"),
        (["--train", "a", "--out"], "--out needs a value"),
        (["--device", "gpu"], "--device is 'gpu', expected auto, cpu or cuda"),
        (["--kaldi", "/nowhere"], "--kaldi /nowhere: no such folder"),
        (["--config", "/"], "--config /: no such file"),
        (["--rescore-lm", "/nowhere"], "--rescore-lm /nowhere: no such file"),
        (["--realign", "100"], "--realign is '100', expected a whole number from 0 to 99"),
        (["--wer-filter", "/nowhere"], "--wer-filter /nowhere: no such file"),
        (["--corpus", "a"], "--corpus a: only mini is embedded; another corpus is named by --kaldi DIR"),
        (["--seed", "1\n"], "--seed is '1\n', expected a whole number from 0 to 999999999999999999"),
        (["--minutes", "5."], "--minutes is '5.', expected a number below 100000"),
        (["--nj", "\u0661"], "--nj is '\u0661', expected a whole number from 1 to 9999"),
    ],
)
def test_a_value_that_does_not_fit_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(arguments)
    assert str(error.value) == message


def test_mini_has_folders_of_its_own_and_three_seeds() -> None:
    expected = Options(
        corpus="mini",
        out="o",
        num_seeds="3",
        train="o/corpus/data/train",
        dev="o/corpus/data/dev",
        train_ali="o/corpus/exp/mono_ali_train",
        dev_ali="o/corpus/exp/mono_ali_dev",
        lang="o/corpus/data/local",
        stop_stage="10",
    )
    assert complete(Options(out="o")) == expected
    assert complete(Options()).out == "exp/mini"


def test_each_round_of_realignment_is_a_stage() -> None:
    assert complete(Options(realign="3")).stop_stage == "13"
    assert complete(Options(realign="3", stop_stage="9")).stop_stage == "9"


def test_realignment_needs_pronunciations_and_words(tmp_path: Path) -> None:
    for name in ("train", "dev", "lang"):
        (tmp_path / name).mkdir()
    given = Options(kaldi=str(tmp_path), train="train", dev="dev", lang="lang", realign="1")
    for path, message in {
        "lang/lexicon.txt": f"--realign needs pronunciations, but {tmp_path}/lang has no L.fst, "
        "lexiconp_silprob.txt, lexiconp.txt or lexicon.txt; name a lang or dictionary folder with --lang",
        "train/text": f"--realign needs the words that were spoken, but {tmp_path}/train has no text",
        "dev/text": f"--realign needs the words that were spoken, but {tmp_path}/dev has no text",
    }.items():
        with pytest.raises(ValueError) as error:
            complete(given)
        assert str(error.value) == message
        (tmp_path / path).touch()
    assert complete(given).lang == f"{tmp_path}/lang"


@pytest.mark.parametrize(
    ("folder", "corpus"), [("wsj/s5", "wsj"), ("wsj/s5b", "wsj"), ("wsj/s5/../v1", "v1"), ("my s5", "my s5")]
)
def test_a_corpus_is_named_after_its_folder(tmp_path: Path, folder: str, corpus: str) -> None:
    assert complete(Options(kaldi=f"{tmp_path}/{folder}")).corpus == corpus


def test_paths_start_in_the_kaldi_folder(tmp_path: Path) -> None:
    found = complete(Options(kaldi=str(tmp_path), dev="/data/dev", train_ali="ali"))
    assert (found.train, found.dev) == (f"{tmp_path}/data/train_si284", "/data/dev")
    assert (found.train_ali, found.graph, found.num_seeds) == (f"{tmp_path}/ali", "", "1")


def test_a_graph_is_taken_where_the_system_has_just_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system = tmp_path / "exp/tri_ali_x"  # the alignments' own name ends at the last _ali
    for name in ("graph_a", "graph_empty", "graph_b"):
        (system / name).mkdir(parents=True)
    (system / "graph_b/HCLG.fst.gz").touch()
    given = Options(kaldi=str(tmp_path), train_ali="exp/tri_ali_x_ali_si284")
    assert complete(given).graph == f"{system}/graph_b"
    (system / "graph_a/HCLG.fst").touch()
    capsys.readouterr()
    assert complete(given).graph == ""
    assert capsys.readouterr().err.endswith(f"choose with --graph: {system}/graph_a {system}/graph_b\n")


def test_the_shell_gets_what_was_given() -> None:
    awkward = "a 'b' \"c\" $HOME `d` \\ \n"
    command = [sys.executable, options.__file__, "--out", awkward]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    shell = ["bash", "-c", 'eval "$1"; printf %s "$out|$seed|$wer_filter"', "-", lines]
    assert subprocess.run(shell, capture_output=True, text=True, check=True).stdout == f"{awkward}|1|"
