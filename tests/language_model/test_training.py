"""Training of language models: the paper's settings, single steps by hand, and exact resume."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from asr_bn.language_model.data import Texts
from asr_bn.language_model.evaluation import TokenSums, evaluate
from asr_bn.language_model.experiment import LanguageModelExperiment
from asr_bn.language_model.model import load_model
from asr_bn.language_model.run import finish_model, train_model
from asr_bn.language_model.trainer import Trainer
from asr_bn.language_model.vocabulary import Vocabulary
from asr_bn.system.files import read_json
from asr_bn.training.checkpoint import LANGUAGE_MODEL, load_checkpoint, save_checkpoint
from asr_bn.training.run_loop import DivergedError
from tests.helpers.language_models import WORDS, make_experiment, make_model, make_texts
from tests.helpers.training import assert_same

CPU = torch.device("cpu")
CONF = Path(__file__).parents[2] / "recipes" / "ptb" / "conf"

# Section 5.2: hidden size, range, steps, clipping, dropout, epochs, divisor of the rate after which epoch.
# The large model's dropout is Zaremba et al.'s (2014); the paper gives none.
PAPER = {
    "small": (200, 0.1, 20, 10.0, 0.0, 15, 2.0, 6),
    "medium": (650, 0.05, 35, 5.0, 0.5, 40, 1.2, 6),
    "large": (1500, 0.04, 35, 5.0, 0.65, 55, 1.15, 15),
}


@pytest.mark.parametrize("size", PAPER)
def test_the_recipes_settings_are_the_papers(size):
    experiment = LanguageModelExperiment.read(CONF / f"{size}.toml")
    model, training = experiment.model, experiment.training
    hidden, init, steps, clip, dropout, epochs, decay, after = PAPER[size]
    assert (model.hidden_size, model.init, model.init_range) == (hidden, "uniform", init)
    assert (model.cell, model.num_layers, model.dropout, model.norm) == ("lstm", 2, dropout, "frame")
    assert (training.num_steps, training.max_grad_norm, training.epochs) == (steps, clip, epochs)
    assert (training.batch_size, training.learning_rate, training.momentum) == (32, 1.0, 0.0)
    assert (training.unit, training.loss, training.carry_state) == ("word", "sequence_sum", True)
    rate = 1.0
    for epoch in range(1, epochs + 1):
        rate = rate / decay if epoch > after else 1.0
        assert training.learning_rate_of(epoch) == pytest.approx(rate, rel=1e-9)


def test_the_character_recipes_settings_are_the_appendixs():
    experiment = LanguageModelExperiment.read(CONF / "char.toml")
    model, training = experiment.model, experiment.training
    assert (model.cell, model.num_layers, model.hidden_size, model.norm) == ("tanh", 3, 250, "recurrent")
    assert (model.init, training.unit, training.num_steps) == ("glorot", "character", 100)
    assert training.learning_rate_of(1) == training.learning_rate_of(training.epochs)


def make_trainer(model, experiment: LanguageModelExperiment, folder) -> Trainer:
    tokens = torch.randint(0, 7, (30,), generator=torch.Generator().manual_seed(4)).numpy()
    names = ("train", "valid", "test")
    texts = Texts(Vocabulary(tuple("abcdefg")), dict.fromkeys(names, tokens), dict.fromkeys(names, folder))
    return Trainer(model, experiment, texts, folder)


def changes_of_first_step(folder, **training: object) -> dict[str, torch.Tensor]:
    experiment = make_experiment("frame", **training)
    trainer = make_trainer(make_model(norm="frame"), experiment, folder)
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.step(next(trainer.train.windows()))
    return {name: value.detach() - before[name] for name, value in trainer.model.named_parameters()}


def gradients_of_first_window(folder) -> dict[str, torch.Tensor]:
    """Of the summed cross entropy, by autograd."""
    model = make_model(norm="frame")
    window = next(make_trainer(model, make_experiment("frame"), folder).train.windows())
    logits, _ = model(window.tokens, window.batch_sizes)
    log_probs = logits.log_softmax(1)
    (-log_probs[torch.arange(len(window.targets)), window.targets].sum()).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(("loss", "divisor"), [("sequence_sum", 3), ("token_mean", 12)])
def test_a_step_goes_down_the_loss_that_was_asked_for(tmp_path, loss, divisor):
    """Summed over the steps and averaged over the 3 streams, or over the 12 tokens of the window."""
    gradients = gradients_of_first_window(tmp_path)
    for name, change in changes_of_first_step(tmp_path, loss=loss, learning_rate=0.1).items():
        torch.testing.assert_close(change, -0.1 * gradients[name] / divisor, rtol=1e-4, atol=1e-5)


def test_gradients_are_clipped_to_the_norm_that_was_asked_for(tmp_path):
    gradients = gradients_of_first_window(tmp_path)
    norm = math.sqrt(sum(float((g / 3).square().sum()) for g in gradients.values()))
    assert norm > 0.2
    for name, change in changes_of_first_step(tmp_path, max_grad_norm=0.2, learning_rate=0.1).items():
        torch.testing.assert_close(change, -0.1 * gradients[name] / 3 * 0.2 / norm, rtol=1e-4, atol=1e-5)
    not_clipped = changes_of_first_step(tmp_path, max_grad_norm=norm * 1.01, learning_rate=0.1)
    for name, change in not_clipped.items():
        torch.testing.assert_close(change, -0.1 * gradients[name] / 3, rtol=1e-4, atol=1e-5)


def test_every_epoch_has_the_learning_rate_of_the_schedule(tmp_path, monkeypatch):
    rates: dict[int, set[float]] = {}
    original = Trainer.step

    def watching(self, window):
        rates.setdefault(self.progress.epoch, set()).add(self.optimization.learning_rate)
        original(self, window)

    monkeypatch.setattr(Trainer, "step", watching)
    experiment = make_experiment("none", epochs=5, learning_rate=0.8, decay=2.0, decay_after=2)
    make_trainer(make_model(norm="none"), experiment, tmp_path).run()
    assert rates == {1: {0.8}, 2: {0.8}, 3: {0.4}, 4: {0.2}, 5: {0.1}}


@pytest.mark.parametrize("carry_state", [True, False])
def test_windows_start_where_the_one_before_ended_and_an_epoch_from_zero(tmp_path, monkeypatch, carry_state):
    trainer = make_trainer(
        make_model(norm="none"), make_experiment("none", carry_state=carry_state), tmp_path
    )
    forward, given, returned = trainer.model.forward, [], []

    def watching(tokens, batch_sizes, state=None):
        if trainer.model.training:
            given.append(state)
        result = forward(tokens, batch_sizes, state)
        if trainer.model.training:
            returned.append(result[1])
        return result

    monkeypatch.setattr(trainer.model, "forward", watching)
    trainer.run()
    assert len(given) == 3 * 3
    for number, state in enumerate(given):
        if number % 3 == 0 or not carry_state:
            assert state is None
        else:
            assert all(torch.equal(*pair) for pair in zip(state, returned[number - 1], strict=True))
            assert not any(values.requires_grad for values in state)


def train(texts: Texts, folder, norm: str = "frame", **training: object) -> Trainer:
    experiment = make_experiment(norm, **training).replace("model", dropout=0.3)
    return train_model(experiment, texts, folder, CPU)


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Texts:
    return make_texts(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def whole(texts, tmp_path_factory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    train(texts, folder, momentum=0.5, checkpoint_windows=2)
    return folder


class Stopped(Exception):
    pass


@pytest.mark.parametrize("steps", [1, 2, 7, 8, 9, 17, 23])
def test_a_run_stopped_at_any_window_ends_where_the_undisturbed_one_ends(
    texts, whole, tmp_path, monkeypatch, steps
):
    """Bit for bit: parameters, momentum, statistics, recurrent and random states, and figures."""
    assert len(texts.windows("train", make_experiment().training)) == 8
    original, taken = Trainer.step, 0

    def stopping(self, window):
        nonlocal taken
        if taken == steps:
            raise Stopped
        taken += 1
        original(self, window)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stopping)
        with pytest.raises(Stopped):
            train(texts, tmp_path, momentum=0.5, checkpoint_windows=2)
    torch.manual_seed(1234)  # what another process would have drawn from
    train(texts, tmp_path, momentum=0.5, checkpoint_windows=2)
    for name in ("last.pt", "best.pt"):
        assert_same(*(load_checkpoint(folder / name, LANGUAGE_MODEL) for folder in (tmp_path, whole)))
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_checkpoint_inside_an_epoch_holds_the_recurrent_state(texts, tmp_path, monkeypatch):
    """Without it the test of resuming would pass with a state that is lost."""
    monkeypatch.setattr(Trainer, "_end_epoch", lambda self: (_ for _ in ()).throw(Stopped))
    with pytest.raises(Stopped):
        train(texts, tmp_path, checkpoint_windows=2)
    saved = load_checkpoint(tmp_path / "last.pt", LANGUAGE_MODEL)
    assert saved["progress"]["next_window"] == 6
    assert all(values.abs().max() > 0 for values in saved["recurrent_state"])


def test_a_run_of_other_settings_or_texts_is_not_continued(texts, whole, tmp_path):
    with pytest.raises(ValueError, match=r"last\.pt: was made with training\.learning_rate = 0\.5, this run"):
        train(texts, whole, momentum=0.5, checkpoint_windows=2, learning_rate=0.25)
    path = tmp_path / "train.txt"
    path.write_text(texts.paths["train"].read_text() + "a\n")
    other = Texts.read(texts.paths | {"train": path}, "word")
    with pytest.raises(ValueError, match=r"last\.pt: was made with data\.sha256_of_tokens"):
        train(other, whole, momentum=0.5, checkpoint_windows=2)


def test_it_learns_what_frequencies_of_words_do_not_tell(tmp_path):
    """Over 20 seeds the two shares were 0.55 to 0.62; rounding cannot decide."""
    texts = make_texts(tmp_path, num_sentences=300)
    experiment = make_experiment("frame", epochs=6, batch_size=16, num_steps=8, learning_rate=0.1, decay=1.0)
    history = train_model(experiment, texts, tmp_path, CPU).progress.history
    probabilities = np.bincount(texts.tokens["train"]) / len(texts.tokens["train"])
    unigram = math.exp(-(probabilities * np.log(probabilities)).sum())
    assert history[-1]["train_perplexity"] < 0.75 * unigram
    assert min(epoch["valid_perplexity"] for epoch in history) < 0.75 * unigram


def test_the_finished_model_is_the_best_epoch_with_statistics_of_the_whole_training_text(texts, whole):
    figures = finish_model(whole, texts, CPU)
    best = load_checkpoint(whole / "best.pt", LANGUAGE_MODEL)
    model, state = load_model(whole / "final.pt")
    nats = [entry["valid_nats"] for entry in best["progress"]["history"]]
    assert figures["best_epoch"] == len(nats)
    assert nats[-1] == min(nats)
    assert all(torch.equal(p, best["model"][name]) for name, p in model.named_parameters())
    # Of the 24 time steps of three streams; the last one may have fewer.
    counts = model.get_submodule("layers.stats_l1").count
    assert counts.sum() == len(texts.tokens["train"])
    training = make_experiment().training
    for name in ("train", "valid", "test"):
        sums = evaluate(model, texts.windows(name, training).windows(), True)
        assert sums.tokens == len(texts.tokens[name])
        assert sums.nats == pytest.approx(figures[f"{name}_nats"], rel=1e-6)
        assert figures[f"{name}_perplexity"] == pytest.approx(math.exp(sums.nats), rel=1e-6)
    assert read_json(whole / "final.json", dict) == figures == state["figures"]


def test_divergence_ends_the_run_in_a_sentence(tmp_path):
    trainer = make_trainer(make_model(norm="none"), make_experiment("none"), tmp_path)
    torch.nn.init.constant_(trainer.model.output.bias, math.inf)
    with pytest.raises(
        DivergedError,
        match=r"not finite in 3 steps in a row, the last one at window 3 of epoch 1; a lower learning",
    ):
        trainer.run()


def test_a_single_step_that_is_not_finite_changes_nothing(tmp_path, monkeypatch):
    trainer = make_trainer(make_model(norm="none"), make_experiment("none"), tmp_path)
    first, second, third = trainer.train.windows()
    trainer.step(first)
    before, sums = copy.deepcopy(trainer.model.state_dict()), trainer.progress.sums
    with monkeypatch.context() as patch:
        forward = trainer.model.forward
        patch.setattr(trainer.model, "forward", lambda *inputs: tuple_with_infinity(*forward(*inputs)))
        trainer.step(second)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert (trainer.progress.sums, trainer.progress.non_finite_steps, trainer.state) == (sums, 1, None)
    trainer.step(third)
    assert trainer.progress.non_finite_steps == 0


def tuple_with_infinity(logits, state):
    return logits * math.inf, state


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_epoch_whose_validation_is_not_finite_is_no_best_one(tmp_path, monkeypatch, value):
    evaluated = iter([TokenSums(3.0, 4), TokenSums(value, 4)])
    monkeypatch.setattr("asr_bn.language_model.trainer.evaluate", lambda *_: next(evaluated))
    trainer = make_trainer(make_model(norm="none"), make_experiment("none"), tmp_path)
    with pytest.raises(DivergedError, match=rf"after epoch 2 the cross entropy .* is {value}; a lower"):
        trainer.run()
    best = load_checkpoint(tmp_path / "best.pt", LANGUAGE_MODEL)
    assert [entry["valid_nats"] for entry in best["progress"]["history"]] == [0.75]


def test_a_lost_best_checkpoint_is_made_anew_or_named(texts, tmp_path, capsys):
    train(texts, tmp_path, epochs=1)
    best = (tmp_path / "best.pt").read_bytes()
    (tmp_path / "best.pt").write_bytes(best[:-1])
    train(texts, tmp_path, epochs=1)
    assert (tmp_path / "best.pt").read_bytes() == best
    assert "best.pt: is lost; last.pt has the best epoch 1 too" in capsys.readouterr().err
    for name in ("last.pt", "previous.pt"):  # as if the run were inside the second epoch
        state = load_checkpoint(tmp_path / "last.pt", LANGUAGE_MODEL)
        state["progress"]["next_window"] = 2
        save_checkpoint(tmp_path / name, state, LANGUAGE_MODEL)
    (tmp_path / "best.pt").unlink()
    with pytest.raises(ValueError, match=r"best\.pt: is missing; epoch 1 is the best so far"):
        train(texts, tmp_path, epochs=1)


def test_a_model_is_finished_with_the_texts_of_its_run(texts, whole, tmp_path):
    path = tmp_path / "valid.txt"
    path.write_text(texts.paths["valid"].read_text() + "a\n")
    other = Texts.read(texts.paths | {"valid": path}, "word")
    with pytest.raises(ValueError, match=r"best\.pt: was made with data\.sha256_of_tokens"):
        finish_model(whole, other, CPU)


@pytest.mark.parametrize("name", ["train", "valid", "test"])
def test_texts_that_do_not_fit_are_named_before_training(tmp_path, texts, name):
    paths = dict(texts.paths)
    paths[name] = tmp_path / "one_line.txt"
    paths[name].write_text("a\n")
    if name == "train":
        paths |= dict.fromkeys(("valid", "test"), paths[name])
    short = Texts.read(paths, "word")
    with pytest.raises(ValueError, match=r"one_line\.txt: has 2 tokens, expected .* each of 3 streams"):
        train(short, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.pt"))


def test_a_word_that_the_vocabulary_lacks_is_named(tmp_path, texts):
    plain = tmp_path / "plain.txt"
    plain.write_text("a b\n")
    with pytest.raises(ValueError, match=r"valid\.txt, sentence \d: '.*' is not among the 3 words"):
        Texts.read(texts.paths | {"train": plain}, "word")
    assert set(texts.vocabulary.words) == {"</s>", *WORDS}
