"""The comparison of learning curves, on curves whose answer is worked out by hand."""

import pytest

from asr_bn.report.figures import draw_figure1
from asr_bn.report.results import best_of_each_set, convergence_ratio, summarize
from asr_bn.training.curves import draw_curves


def curve(*train_fce: float) -> list[dict[str, float]]:
    return [{"epoch": k, "train_fce": value} for k, value in enumerate(train_fce, start=1)]


def test_ratio_between_two_epochs_is_interpolated():
    # The baseline's best is 1.0, at its epoch 4; the other passes it half way from epoch 2 to epoch 3.
    assert convergence_ratio(curve(4, 3, 2, 1), curve(3, 1.5, 0.5, 0.4)) == pytest.approx(2.5 / 4)


def test_ratio_counts_to_the_baselines_best_epoch_not_its_last():
    assert convergence_ratio(curve(4, 1, 2, 2), curve(3, 1, 0.5, 0.4)) == pytest.approx(1.0)


def test_no_ratio_where_it_never_gets_there():
    assert convergence_ratio(curve(2, 1), curve(2, 1.5)) is None


def test_reached_in_the_first_epoch():
    assert convergence_ratio(curve(2, 1), curve(0.5, 0.4)) == pytest.approx(0.5)


def test_spread_over_seeds():
    runs = [(curve(3, 2, 1), curve(3, 1, 0.5)), (curve(3, 2, 1), curve(4, 3, 1))]
    summary = summarize(runs)
    assert summary["ratio_per_seed"] == pytest.approx([2 / 3, 1.0])
    assert summary["ratio"] == pytest.approx(2 / 3)
    assert summary["ratio_mean"] == pytest.approx(5 / 6)
    assert summary["ratio_std"] == pytest.approx(0.2357, abs=1e-4)  # (1 - 2/3) / sqrt(2)
    assert summary["ahead_from_second_epoch"] == [True, False]


def test_the_lowest_of_each_set_are_of_different_epochs():
    epochs = [
        {
            "epoch": 1,
            "train_fce": 2.0,
            "train_fer": 0.5,
            "dev_fce": 1.5,
            "dev_fer": 0.4,
            "learning_rate": 0.1,
        },
        {
            "epoch": 2,
            "train_fce": 1.0,
            "train_fer": 0.6,
            "dev_fce": 1.7,
            "dev_fer": 0.3,
            "learning_rate": 0.0,
        },
    ]
    lowest = {"train_fce": 1.0, "train_fer": 0.5, "dev_fce": 1.5, "dev_fer": 0.3}
    assert best_of_each_set(epochs) == lowest


def test_training_curves_are_dotted_and_others_solid(tmp_path, monkeypatch):
    """Captions of the paper's Figures 1 and 2."""
    epochs = [
        {"epoch": k, "train_fce": 2 / k, "train_fer": 1 / k, "dev_fce": 3 / k, "dev_fer": 0.5} for k in (1, 2)
    ]
    figures = [draw_figure1({"baseline": epochs, "batch_norm": epochs}, "mini")]
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: figures.append(figure))
    draw_curves(epochs, "run", tmp_path / "figure.png")
    for figure in figures:
        for axes in figure.axes:
            for line in axes.get_lines():
                assert line.get_linestyle() == (":" if "training" in line.get_label() else "-")
