"""Exported language models and ``asr-bn lm-score`` against PyTorch and the figures of training."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn.utils import prune
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.language_model.data import Texts
from asr_bn.language_model.metadata import LanguageModelMetadata
from asr_bn.language_model.model import load_model
from asr_bn.language_model.onnx_export import export_graph, export_language_model
from asr_bn.language_model.run import finish_model, train_model
from asr_bn.language_model.scoring import LanguageScorer, TextScore
from tests.helpers.language_models import make_experiment, make_model, make_texts

KINDS = [(cell, norm) for cell in ("lstm", "tanh") for norm in ("none", "frame", "recurrent")]


def session_of(path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def exported(request, tmp_path_factory):
    """A model with statistics of four steps, and sessions of its two graphs."""
    cell, norm = request.param
    model, folder = make_model(cell=cell, norm=norm), tmp_path_factory.mktemp("exported")
    sessions = []
    with torch.no_grad():
        for seed in range(3):
            random = torch.Generator().manual_seed(seed)
            model(torch.randint(0, 7, (4 * 8,), generator=random), torch.full((4,), 8))
    for graph in ("window", "step"):
        metadata = LanguageModelMetadata(graph, ("</s>",), make_experiment().to_dict(), {}, {}, "0")
        export_graph(model.eval(), metadata, folder / "x.onnx")
        sessions.append(session_of(folder / "x.onnx"))
    return model, *sessions


def draw_inputs(model, num_steps: int, num_streams: int = 5):
    random = np.random.default_rng(num_steps)
    tokens = random.integers(0, 7, (num_steps, num_streams))
    shape = (model.layers.num_layers, num_streams, model.layers.hidden_size)
    names = ["h_0", "c_0"][: model.layers.cell.num_states]
    return tokens, {name: random.normal(0, 0.5, shape).astype(np.float32) for name in names}


@torch.no_grad()
def expected_of(model, tokens, states):
    """PyTorch's log probabilities ``[steps, batch, num_words]`` and states."""
    first = tuple(torch.from_numpy(values) for values in states.values())
    sizes = torch.full((len(tokens),), tokens.shape[1])
    logits, last = model(torch.from_numpy(tokens.reshape(-1)), sizes, first)
    return [logits.log_softmax(1).view(*tokens.shape, -1), *last]


def assert_close(actual, expected):
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, np.asarray(theirs), rtol=0, atol=1e-5)


def test_a_pruned_model_is_exported_as_it_computes(tmp_path):
    """Right after a step of training, too, when what pruning left in the modules is out of date."""
    model = make_model(cell="lstm", norm="none").eval()
    for module, name in ((model.layers, "weight_hh_l0"), (model.output, "weight")):
        prune.l1_unstructured(module, name, 0.5)
        with torch.no_grad():
            module.get_parameter(f"{name}_orig").neg_()
    metadata = LanguageModelMetadata("window", ("</s>",), make_experiment().to_dict(), {}, {}, "0")
    export_graph(model, metadata, tmp_path / "x.onnx")
    tokens, states = draw_inputs(model, 4)
    inputs = {"tokens": tokens, "first_step": np.array(0), **states}
    assert_close(session_of(tmp_path / "x.onnx").run(None, inputs), expected_of(model, tokens, states))


@pytest.mark.parametrize("num_steps", [1, 4, 7])
def test_a_window_as_long_as_trained_and_shorter_and_longer(exported, num_steps):
    model, window, _ = exported
    tokens, states = draw_inputs(model, num_steps)
    actual = window.run(None, {"tokens": tokens, "first_step": np.array(0), **states})
    assert_close(actual, expected_of(model, tokens, states))


def test_a_window_may_come_in_parts(exported):
    """The second part says that it starts at the third step."""
    model, window, _ = exported
    tokens, states = draw_inputs(model, 7)
    first, *last = window.run(None, {"tokens": tokens[:3], "first_step": np.array(0), **states})
    carried = dict(zip(states, last, strict=True))
    second, *last = window.run(None, {"tokens": tokens[3:], "first_step": np.array(3), **carried})
    assert_close([np.concatenate([first, second]), *last], expected_of(model, tokens, states))


def test_single_steps_are_the_window(exported):
    model, _, step = exported
    tokens, states = draw_inputs(model, 7)
    current, log_probs = states, []
    for number, row in enumerate(tokens):
        scores, *last = step.run(None, {"tokens": row, "step": np.full(5, number), **current})
        log_probs.append(scores)
        current = dict(zip(states, last, strict=True))
    assert_close([np.stack(log_probs), *last], expected_of(model, tokens, states))


def test_hypotheses_of_a_batch_may_be_at_different_steps(exported):
    model, _, step = exported
    (row, _), states = draw_inputs(model, 2)
    steps = np.array([3, 0, 9, 1, 2])
    together = step.run(None, {"tokens": row, "step": steps, **states})[0]
    for k in range(5):
        one = {name: values[:, k : k + 1] for name, values in states.items()}
        alone = step.run(None, {"tokens": row[k : k + 1], "step": steps[k : k + 1], **one})[0]
        np.testing.assert_allclose(together[k], alone[0], rtol=0, atol=1e-5)


def test_contract_of_inputs_and_outputs(exported):
    model, window, step = exported
    state = [2, "batch", 6]
    names = ["h", "c"][: model.layers.cell.num_states]
    states = [(f"{name}_0", "tensor(float)", state) for name in names]
    last = [(f"{name}_n", "tensor(float)", state) for name in names]
    assert described(window.get_inputs()) == [
        ("tokens", "tensor(int64)", ["steps", "batch"]),
        ("first_step", "tensor(int64)", []),
        *states,
    ]
    assert described(window.get_outputs()) == [("log_probs", "tensor(float)", ["steps", "batch", 7]), *last]
    assert described(step.get_inputs()) == [
        ("tokens", "tensor(int64)", ["batch"]),
        ("step", "tensor(int64)", ["batch"]),
        *states,
    ]
    assert described(step.get_outputs()) == [("log_probs", "tensor(float)", ["batch", 7]), *last]


def described(values):
    return [(value.name, value.type, value.shape) for value in values]


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Texts:
    return make_texts(tmp_path_factory.mktemp("texts"))


RUNS = {
    "baseline": ("lstm", "none", True, "word"),
    "batch_norm": ("lstm", "frame", True, "word"),
    "characters": ("tanh", "recurrent", False, "character"),
}


@pytest.fixture(scope="module", params=RUNS)
def run(request, texts, tmp_path_factory):
    """A finished and exported run, its texts and its figures."""
    cell, norm, carry_state, unit = RUNS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    experiment = make_experiment(norm, cell, epochs=1, carry_state=carry_state, unit=unit)
    texts = Texts.read(texts.paths, unit)
    train_model(experiment, texts, folder, torch.device("cpu"))
    figures = finish_model(folder, texts, torch.device("cpu"))
    assert export_language_model(folder) == [folder / "model.onnx", folder / "step.onnx"]
    return folder, texts, figures


def lm_score(*arguments, **options) -> object:
    return CliRunner().invoke(app, ["lm-score", *map(str, arguments)], catch_exceptions=False, **options)


@pytest.mark.parametrize("name", ["train", "valid", "test"])
def test_a_text_has_the_perplexity_that_training_gave_it(run, name):
    folder, texts, figures = run
    scorer = LanguageScorer.load(folder / "model.onnx")
    score = TextScore.of(scorer.score_text(texts.tokens[name], name))
    assert score.num_tokens == len(texts.tokens[name])
    assert score.perplexity == pytest.approx(figures[f"{name}_perplexity"], rel=1e-5)
    printed = lm_score(folder / "model.onnx", texts.paths[name]).stdout
    assert printed.endswith(f"log probability {score.log_prob:.4f}, perplexity {score.perplexity:.4f}\n")


@torch.no_grad()
def log_probs_alone(folder, tokens: np.ndarray) -> np.ndarray:
    """Of a text that starts after the end of a sentence, by PyTorch, a window after the other."""
    model, state = load_model(folder / "final.pt")
    training, result, carried = state["config"]["training"], [], None
    before = torch.from_numpy(np.concatenate([[0], tokens[:-1]]))
    for start in range(0, len(tokens), training["num_steps"]):
        window = before[start : start + training["num_steps"]]
        carried = carried if training["carry_state"] else None
        logits, carried = model.eval()(window, torch.ones(len(window), dtype=torch.int64), carried)
        targets = tokens[start : start + len(window)]
        result.append(logits.log_softmax(1).numpy()[np.arange(len(window)), targets])
    return np.concatenate(result)


def split_sentences(tokens: np.ndarray) -> list[np.ndarray]:
    return np.split(tokens, np.flatnonzero(tokens == 0)[:-1] + 1)


def test_sentences_are_scored_alone(run):
    """Each as if there were no other; some are longer than a window."""
    folder, texts, _ = run
    sentences = split_sentences(texts.tokens["valid"])
    assert min(map(len, sentences)) <= 4 < max(map(len, sentences))
    scores = LanguageScorer.load(folder / "model.onnx").score_sentences(sentences)
    for log_probs, sentence in zip(scores, sentences, strict=True):
        np.testing.assert_allclose(log_probs, log_probs_alone(folder, sentence), rtol=0, atol=1e-5)


def test_one_stream_is_a_running_text(run):
    folder, texts, _ = run
    scorer = LanguageScorer.load(folder / "model.onnx")
    log_probs = scorer.score_text(texts.tokens["valid"], "x", num_streams=1)
    np.testing.assert_allclose(log_probs, log_probs_alone(folder, texts.tokens["valid"]), rtol=0, atol=1e-5)


def test_metadata_are_enough_to_score(run):
    folder, texts, figures = run
    metadata = LanguageScorer.load(folder / "model.onnx").metadata
    assert metadata.vocabulary == texts.vocabulary
    training = load_model(folder / "final.pt")[1]["config"]["training"]
    assert (metadata.unit, metadata.carry_state) == (training["unit"], training["carry_state"])
    assert (metadata.num_steps, metadata.num_streams) == (4, 3)
    assert metadata.figures == figures
    assert LanguageModelMetadata.from_json(metadata.to_json()) == metadata


@pytest.fixture(scope="module")
def scored(texts, tmp_path_factory):
    """A model of words, for what does not depend on the model."""
    folder = tmp_path_factory.mktemp("scored")
    train_model(make_experiment("none", epochs=1), texts, folder, torch.device("cpu"))
    finish_model(folder, texts, torch.device("cpu"))
    result = CliRunner().invoke(app, ["lm-export", str(folder)], catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (0, "")
    return folder


def test_a_line_for_each_sentence_and_the_sum(scored, texts):
    result = lm_score(scored / "model.onnx", texts.paths["valid"], "--per-sentence")
    sentences = split_sentences(texts.tokens["valid"])
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [name for name, *_ in rows] == [str(k) for k in range(1, len(sentences) + 1)]
    total = 0.0
    for (_, log_prob, num_tokens, perplexity), sentence in zip(rows, sentences, strict=True):
        expected = float(log_probs_alone(scored, sentence).sum())
        total += expected
        assert (float(log_prob), int(num_tokens)) == (pytest.approx(expected, abs=1e-4), len(sentence))
        assert float(perplexity) == pytest.approx(np.exp(-expected / len(sentence)), rel=1e-4)
    unknown = np.count_nonzero(texts.tokens["valid"] == texts.vocabulary.words.index("<unk>"))
    summary = f"{len(sentences)} sentences, {len(texts.tokens['valid'])} tokens ({unknown} of them <unk>), "
    assert f"{summary}log probability {total:.3f}" in result.stderr


def test_hypotheses_with_utterance_ids_from_standard_input(scored):
    """An unknown word is <unk>, and a hypothesis without words the end of a sentence alone."""
    result = lm_score(
        scored / "model.onnx",
        "-",
        "--per-sentence",
        "--utt-ids",
        input="u1-1 a b\nu1-2\nu1-3 a zebra\nu2-1 a <unk>\n",
    )
    rows = {name: values for name, *values in map(str.split, result.stdout.splitlines())}
    assert list(rows) == ["u1-1", "u1-2", "u1-3", "u2-1"]
    assert [int(values[1]) for values in rows.values()] == [3, 1, 3, 3]
    assert rows["u1-3"] == rows["u2-1"] != rows["u1-1"]


def refused(*arguments) -> str:
    with pytest.raises((ValueError, OSError)) as caught:
        lm_score(*arguments)
    return str(caught.value)


def test_files_that_are_no_language_models_are_named(scored, texts, tmp_path):
    text = texts.paths["valid"]
    truncated, foreign = tmp_path / "truncated.onnx", tmp_path / "foreign.onnx"
    truncated.write_bytes((scored / "model.onnx").read_bytes()[:-500])
    assert "truncated.onnx: not a model that asr-bn can load (" in refused(truncated, text)
    proto = onnx.load(scored / "model.onnx")
    del proto.metadata_props[:]
    onnx.save(proto, foreign)
    assert "foreign.onnx: not a language model that asr-bn exported" in refused(foreign, text)
    assert "step.onnx: computes a single step a call" in refused(scored / "step.onnx", text)
    assert "no such model file" in refused(tmp_path / "missing.onnx", text)


def test_texts_that_cannot_be_scored_are_named(scored, tmp_path):
    model, text = scored / "model.onnx", tmp_path / "text"
    text.write_text("")
    assert f"{text}: holds no text, expected one sentence a line" in refused(model, text)
    text.write_text("a\n")
    assert f"{text}: has 2 tokens, fewer than the 3 streams to cut it into" in refused(model, text)
    assert "use --streams 1, or --per-sentence" in refused(model, text)
    assert lm_score(model, text, "--streams", "1").exit_code == 0
    assert "choose one" in refused(model, text, "--streams", "1", "--per-sentence")
    assert "No such file" in refused(model, tmp_path / "missing")


@pytest.mark.parametrize("run", ["characters"], indirect=True)
def test_an_unknown_token_of_a_model_without_unk_is_named(run, tmp_path):
    folder, _, _ = run
    text = tmp_path / "text"
    text.write_text("a b\na ü\n")
    message = refused(folder / "model.onnx", text, "--per-sentence")
    assert f"{text}, sentence 2: 'ü' is not among the" in message


def test_a_run_without_its_last_checkpoint_is_not_exported(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        CliRunner().invoke(app, ["lm-export", str(tmp_path)], catch_exceptions=False)
