"""Small decoding graphs and the comparison of two."""

from pathlib import Path

import numpy as np
import pytest

from asr_bn.decoding.graph import DecodingGraph
from asr_bn.decoding.search_options import BeamOptions
from tests.helpers.beam_search import BeamSearch
from tests.helpers.kaldi_fixtures import SYNTHETIC


def lexicon_dir(folder: Path) -> Path:
    """Make a folder as Kaldi's ``data/local/dict``: plain phones, whose numbers are beside the model."""
    folder.mkdir()
    (folder / "lexicon.txt").write_bytes((SYNTHETIC / "data/lexicon.txt").read_bytes())
    (folder / "optional_silence.txt").write_text("SIL\n")
    return folder


def arpa_text(first: str, second: str, third: str) -> str:
    """Write a bigram model of three words, of which two follow each other, as an ARPA file."""
    return f"""\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-1.0\t</s>
-99\t<s>\t-0.30
-0.6\t{first}\t-0.20
-0.7\t{second}\t-0.10
-0.9\t{third}\t-0.25

\\2-grams:
-0.4\t<s> {first}
-0.3\t{first} {second}
-0.2\t{second} </s>

\\end\\
"""


def grammar_of(g_txt: Path) -> str:
    """Write Kaldi's acceptor as rules, where all that a state offers is equally likely."""
    rules: dict[str, list[str]] = {}
    for line in g_txt.read_text().splitlines():
        state, *arc = line.split()
        rules.setdefault(state, []).append(f"{arc[1]} STATE{arc[0]}" if len(arc) > 1 else "-")
    lines = [f"STATE{state} = {' | '.join(parts)}\n" for state, parts in rules.items()]
    return "SENTENCE = STATE0\n" + "".join(lines)


def check_same_graph(ours: Path, kaldis: Path, mdl: Path, lengths: tuple[int, ...]) -> None:
    """Assert that both give random scores the same best words at the same cost, searched without a beam."""
    graphs = [DecodingGraph.load(folder, mdl) for folder in (ours, kaldis)]
    searches = [BeamSearch(graph, BeamOptions(beam=1000.0, max_active=1_000_000)) for graph in graphs]
    random, sentences = np.random.default_rng(0), set()
    for num_frames in lengths:
        for scale in (0.3, 1.0, 3.0):
            scores = scale * random.normal(size=(num_frames, graphs[0].model.num_pdfs))
            paths = [search.decode(scores.astype(np.float32), 1.0) for search in searches]
            assert all(path.is_complete for path in paths)
            assert paths[0].words == paths[1].words
            costs = [path.graph_cost + path.acoustic_cost for path in paths]
            # Minimization rounds costs to 1/1024 on its way.
            assert costs[0] == pytest.approx(costs[1], abs=0.02)
            sentences.add(" ".join(paths[0].words))
    assert len(sentences) >= len(lengths)
