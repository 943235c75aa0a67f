"""A lexicon and a graph for `tests.helpers.serving.write_phone_model`, and data folders of the fixtures."""

from pathlib import Path

from asr_bn.decoding.build_graph import make_graph
from tests.helpers.graphs import grammar_of, lexicon_dir
from tests.helpers.kaldi_fixtures import SYNTHETIC
from tests.helpers.serving import write_phone_model

TEXTS = {"f1-015": "bring my chair", "f2-008": "bring the chair", "m4-009": "move your house"}


def speech(utt_id: str) -> bytes:
    """A WAV file of the fixtures."""
    return (SYNTHETIC / f"audio/{utt_id}.wav").read_bytes()


def graph_dir(folder: Path) -> Path:
    """Make a graph of the fixtures' sentences, as ``asr-bn make-graph`` does; its lexicon is in ``dict``."""
    (folder / "grammar").write_text(grammar_of(SYNTHETIC / "graph/G.txt"))
    mdl, tree = SYNTHETIC / "ali/final.mdl", SYNTHETIC / "ali/tree"
    make_graph(lexicon_dir(folder / "dict"), mdl, folder / "graph", None, folder / "grammar", tree)
    return folder / "graph"


def write_searchable(model: Path) -> tuple[str, ...]:
    """Write a model that knows its phones, a lexicon and a graph; return the arguments of ``serve``."""
    graph_dir(write_phone_model(model).parent)
    return str(model), "--lang", str(model.parent / "dict"), "--graph", str(model.parent / "graph")


def data_dir(folder: Path, with_text: bool) -> Path:
    """Make a data folder of the fixtures' utterances."""
    folder.mkdir()
    audio = (f"{utt_id} {SYNTHETIC}/audio/{utt_id}.wav\n" for utt_id in TEXTS)
    (folder / "wav.scp").write_text("".join(audio))
    if with_text:
        (folder / "text").write_text("".join(f"{utt_id} {text}\n" for utt_id, text in TEXTS.items()))
    return folder
