"""The random search: what it draws, that kills and company change nothing, divergence, and its report."""

import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from asr_bn.language_model.data import Texts
from asr_bn.language_model.experiment import LanguageModelExperiment
from asr_bn.language_model.run import finish_model, train_model
from asr_bn.system.files import locked_folder
from asr_bn.training.run_loop import DivergedError

optuna = pytest.importorskip("optuna", reason="optuna is an extra: pip install 'asr-bn[search]'")

from recipes.ptb.local import search  # noqa: E402
from recipes.ptb.local.search import NetworkResult, SearchResults, TrialResult, run_search  # noqa: E402
from recipes.ptb.local.search_report import (  # noqa: E402
    draw_figure3,
    format_results,
    summarize,
    write_search_report,
)
from recipes.ptb.local.search_study import Draw, NumberedSampler, SearchStudy  # noqa: E402

CPU = torch.device("cpu")
BASE = LanguageModelExperiment.from_dict(
    {
        "model": {"cell": "tanh", "num_layers": 1, "hidden_size": 4, "init": "glorot"},
        "training": {
            "unit": "character",
            "epochs": 2,
            "num_steps": 5,
            "carry_state": False,
            "loss": "token_mean",
            "decay": 1.0,
            "checkpoint_windows": 1,
        },
    }
)


@pytest.fixture(scope="session")
def text_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    rng = random.Random(1)
    for name, lines in (("train", 60), ("valid", 20), ("test", 20)):
        text = "".join(" ".join(rng.choices(("ab", "ba", "cab"), k=6)) + "\n" for _ in range(lines))
        (folder / f"{name}.txt").write_text(text)
    return folder


@pytest.fixture(scope="session")
def texts(text_dir: Path) -> Texts:
    return Texts.read({name: text_dir / f"{name}.txt" for name in ("train", "valid", "test")}, "character")


@pytest.fixture(scope="session")
def undisturbed(texts: Texts, tmp_path_factory: pytest.TempPathFactory) -> SearchResults:
    """Three trials of one process that nobody stopped."""
    return run_search(texts, BASE, tmp_path_factory.mktemp("search"), 3, CPU, seed=7)


def _draws(count: int, seed: int) -> list[Draw]:
    study = optuna.create_study(sampler=NumberedSampler(seed))
    return [Draw.of(study.ask()) for _ in range(count)]


def test_draws_have_the_distributions_of_the_appendix() -> None:
    draws = _draws(300, seed=0)
    rates = np.log10([draw.learning_rate for draw in draws])
    # The seed is fixed; a rate that is uniform itself, in place of its logarithm, has p < 1e-50.
    assert stats.kstest(rates, stats.uniform(-4, 4).cdf).pvalue > 1e-3
    for values, choices in (
        ([draw.momentum for draw in draws], (0.5, 0.8, 0.9, 0.95, 0.995)),
        ([draw.batch_size for draw in draws], (32, 64, 128)),
    ):
        counts = Counter(values)
        assert set(counts) == set(choices)
        assert stats.chisquare([counts[choice] for choice in choices]).pvalue > 1e-3
    ranks = [
        stats.spearmanr(rates, [getattr(draw, name) for draw in draws]) for name in ("momentum", "batch_size")
    ]
    assert min(rank.pvalue for rank in ranks) > 1e-3  # drawn independently of each other


def test_a_draw_depends_on_seed_and_number_alone() -> None:
    assert _draws(3, seed=5) == _draws(5, seed=5)[:3]
    assert not set(_draws(3, seed=5)) & set(_draws(3, seed=6))


def test_every_trial_is_a_plain_training_run_of_both_networks(
    texts: Texts, undisturbed: SearchResults, tmp_path: Path
) -> None:
    assert [trial.number for trial in undisturbed.trials] == [0, 1, 2]
    assert [trial.draw for trial in undisturbed.trials] == _draws(3, seed=7)
    trial = undisturbed.trials[1]
    for network, norm in (("baseline", "none"), ("batch_norm", "recurrent")):
        experiment = BASE.replace("model", norm=norm).replace("training", **vars(trial.draw))
        train_model(experiment, texts, tmp_path / network, CPU)
        expected = finish_model(tmp_path / network, texts, CPU)
        assert trial.networks[network].final == expected
        assert [entry["epoch"] for entry in trial.networks[network].epochs] == [1, 2]


PROGRAM = """
    import json, sys
    from pathlib import Path
    import torch
    from asr_bn.language_model.experiment import LanguageModelExperiment
    from asr_bn.language_model.data import Texts
    from recipes.ptb.local.search import run_search
    torch.set_num_threads(1)
    texts, out_dir, base = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    paths = {name: texts / f"{name}.txt" for name in ("train", "valid", "test")}
    base = LanguageModelExperiment.from_dict(base)
    run_search(Texts.read(paths, "character"), base, out_dir, 3, torch.device("cpu"), seed=7)
"""


def _start(text_dir: Path, out_dir: Path) -> subprocess.Popen[bytes]:
    arguments = [str(text_dir), str(out_dir), json.dumps(BASE.to_dict())]
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), *arguments]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)})


def test_killed_and_in_company_the_search_is_the_same(
    texts: Texts, text_dir: Path, undisturbed: SearchResults, tmp_path: Path
) -> None:
    processes = [_start(text_dir, tmp_path) for _ in range(2)]
    deadline = time.monotonic() + 300  # far more than any machine needs
    while not list(tmp_path.glob("trial_*/*/last.pt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.wait()
    database = optuna.load_study(study_name="char", storage=f"sqlite:///{tmp_path / 'search.db'}")
    begun = [trial for trial in database.trials if trial.state == optuna.trial.TrialState.RUNNING]
    assert begun, "nothing was interrupted"
    finished = [path.with_suffix(".pt") for path in tmp_path.glob("trial_*/*/final.json")]  # written last
    checkpoints = {path: path.stat().st_ino for path in finished}

    results = run_search(texts, BASE, tmp_path, 3, CPU, seed=7)
    assert results == undisturbed
    assert [trial.number for trial in database.trials] == [0, 1, 2]
    assert {trial.state for trial in database.trials} == {optuna.trial.TrialState.COMPLETE}
    for trial, ours in zip(database.trials, results.trials, strict=True):
        assert trial.values == [ours.networks[name].valid_nats for name in ("baseline", "batch_norm")]
    # What was finished before the kill was not trained again.
    assert all(path.stat().st_ino == inode for path, inode in checkpoints.items())


def test_processes_share_a_search_through_the_command(text_dir: Path, tmp_path: Path) -> None:
    """While another run holds the folder: trials have locks of their own."""
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for name in ("train", "valid", "test"):
        (data / f"ptb.{name}.txt").write_bytes((text_dir / f"{name}.txt").read_bytes())
    settings = {"training.epochs": 4, "training.num_steps": 10, "model.hidden_size": 4, "model.num_layers": 1}
    command = [sys.executable, "recipes/ptb/run.py", "--data", data, "--any-text", "--out", out]
    command += ["--search", "4", "--device", "cpu", *(f"--set={k}={value}" for k, value in settings.items())]
    root = Path(__file__).parents[2]
    with locked_folder(out):
        processes = [
            subprocess.Popen([str(word) for word in command], cwd=root, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        said = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    trained = [[int(number) for number in re.findall(r"^trial (\d+):", text, re.M)] for text in said]
    assert sorted(trained[0] + trained[1]) == [0, 1, 2, 3]
    report = json.loads((out / "search" / "search.json").read_text())
    assert [trial["trial"] for trial in report["trials"]] == [0, 1, 2, 3]
    assert (report["num_finished"], report["num_running"]) == (4, 0)


def test_a_trial_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    ours, theirs = (SearchStudy(tmp_path, {}, 1, ["loss"]) for _ in range(2))
    with ours.claim(2) as first:
        assert first is not None
        with theirs.claim(2) as second, ours.claim(2) as third:
            assert second is not None and second.number == 1
            assert third is None  # all are held
    with theirs.claim(2) as again:  # given up unfinished: taken up again, with the same draw
        assert again is not None and again.number == 0
        assert Draw.of(again) == Draw.of(first)
        theirs.finish(again, [1.0])
    with ours.claim(1) as fewer:  # trial 1 is beyond what this call asks for
        assert fewer is None
    with ours.claim(2) as last:
        assert last is not None and last.number == 1


def test_more_trials_add_to_the_same_draws(texts: Texts, undisturbed: SearchResults, tmp_path: Path) -> None:
    assert run_search(texts, BASE, tmp_path, 1, CPU, seed=7).trials == undisturbed.trials[:1]
    assert run_search(texts, BASE, tmp_path, 2, CPU, seed=7).trials == undisturbed.trials[:2]


def test_another_configuration_or_seed_is_another_search(texts: Texts, tmp_path: Path) -> None:
    run_search(texts, BASE, tmp_path, 0, CPU, seed=7)
    with pytest.raises(ValueError, match=r"search.db: was made with training.epochs = 2, this run has 3"):
        run_search(texts, BASE.replace("training", epochs=3), tmp_path, 0, CPU, seed=7)
    with pytest.raises(ValueError, match=r"search.seed = 7, this run has 8"):
        run_search(texts, BASE, tmp_path, 0, CPU, seed=8)
    # What is drawn, and the norm, are not part of it.
    run_search(texts, BASE.replace("training", momentum=0.5), tmp_path, 0, CPU, seed=7)


def test_a_network_that_diverges_is_recorded_and_does_not_end_the_search(
    texts: Texts, undisturbed: SearchResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(
        experiment: LanguageModelExperiment, texts: Texts, out_dir: Path, device: torch.device
    ) -> object:
        if out_dir.parts[-2:] == ("trial_000", "baseline"):
            raise DivergedError("loss was not finite")
        return train_model(experiment, texts, out_dir, device)

    monkeypatch.setattr(search, "train_model", diverge)
    results = run_search(texts, BASE, tmp_path, 2, CPU, seed=7)
    first = results.trials[0].networks
    assert first["baseline"] == NetworkResult([], None, math.log(5), "loss was not finite")
    assert first["baseline"].failed and not results.trials[0].works
    assert first["batch_norm"] == undisturbed.trials[0].networks["batch_norm"]
    assert results.trials[1] == undisturbed.trials[1]
    database = optuna.load_study(study_name="char", storage=f"sqlite:///{tmp_path / 'search.db'}")
    assert database.trials[0].values == [math.inf, first["batch_norm"].valid_nats]
    write_search_report(results, tmp_path)
    row = json.loads((tmp_path / "search.json").read_text())["trials"][0]
    assert row["baseline"] == {
        "best_epoch": None,
        "train_nats": None,
        "valid_nats": None,
        "test_nats": None,
        "failed": True,
        "reason": "loss was not finite",
    }
    assert "loss was not finite" in (tmp_path / "search.html").read_text()


def _network(valid: float, *epochs: float) -> NetworkResult:
    curve = [
        {"epoch": i, "train_nats": value, "valid_nats": value + 0.5} for i, value in enumerate(epochs, 1)
    ]
    final = {"best_epoch": 1, "train_nats": valid - 0.1, "valid_nats": valid, "test_nats": valid + 0.1}
    return NetworkResult(curve, final, ceiling=3.9)


def _results(*valid: tuple[float, float]) -> SearchResults:
    trials = (
        TrialResult(number, Draw(0.1, 0.5, 32), {"baseline": _network(a), "batch_norm": _network(b)})
        for number, (a, b) in enumerate(valid)
    )
    return SearchResults(tuple(trials), 9, 1, 50, BASE.to_dict())


def test_summary_by_hand() -> None:
    # Trials 1 and 5 do not work: a loss of guessing or worse is failure, finite or not.
    results = _results((1.2, 1.3), (4.0, 1.1), (1.1, 1.2), (1.5, 1.4), (2.0, 2.1), (200.0, 3.9))
    summary = summarize(results)
    assert (summary["num_worked"], summary["batch_norm_worse"]) == (4, 3)
    assert summary["only_failed"] == {"baseline": 1, "batch_norm": 0}
    assert summary["both_failed"] == 1
    table = summary["table3"]
    assert (table["baseline"]["trial"], table["baseline"]["valid_nats"]) == (2, 1.1)
    assert (table["batch_norm"]["trial"], table["batch_norm"]["train_nats"]) == (1, 1.0)
    typical = results.typical()
    assert typical is not None and typical.number == 0  # 1.1, [1.2], 1.5, 2.0
    assert "1.000  1.100           1.05   1.10" in format_results(results)
    assert results.trials[5].networks["baseline"].describe() == "200.000 (no better than guessing)"
    assert "6 of 9 trials finished, 1 running elsewhere" in format_results(results)


def test_nothing_worked(tmp_path: Path) -> None:
    write_search_report(_results((4.0, 5.0)), tmp_path)
    assert json.loads((tmp_path / "search.json").read_text())["table3"] == {
        "baseline": None,
        "batch_norm": None,
    }
    assert not (tmp_path / "figure3.png").exists()
    assert "no curves to compare" in (tmp_path / "search.html").read_text()


def test_figure3_draws_the_curves_of_both_networks() -> None:
    networks = {"baseline": _network(1.1, 3.0, 2.0), "batch_norm": _network(1.2, 3.5, math.inf)}
    lines = draw_figure3(TrialResult(4, Draw(7.8e-4, 0.5, 64), networks)).axes[0].get_lines()
    drawn = {line.get_label(): (line.get_color(), list(line.get_ydata())) for line in lines}
    assert drawn["baseline, training"] == ("tab:blue", [3.0, 2.0])
    assert drawn["baseline, validation"] == ("tab:blue", [3.5, 2.5])
    assert drawn["batch normalized, training"][0] == "tab:red"
    assert drawn["batch normalized, training"][1][0] == 3.5 and math.isnan(
        drawn["batch normalized, training"][1][1]
    )


def test_report_shows_ours_beside_the_paper(undisturbed: SearchResults, tmp_path: Path) -> None:
    write_search_report(undisturbed, tmp_path)
    page = (tmp_path / "search.html").read_text()
    for paper in ("<td>1.05</td><td>1.10</td>", "<td>1.07</td><td>1.11</td>", "<td>0.000371</td>"):
        assert paper in page
    best = min(trial.networks["baseline"].valid_nats for trial in undisturbed.trials)
    assert f"<td>{best:.3f}</td>" in page
    assert (tmp_path / "figure3.png").read_bytes().startswith(b"\x89PNG")
