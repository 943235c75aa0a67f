"""What a Kaldi user has to make a graph from: lang folders, G.fst, ARPA files as they are found, silprob.txt.

The oracles are Kaldi's own graphs, and costs of whole sentences worked out without a graph.
"""

import gzip
import importlib.util
import itertools
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.decoding.beam_search import BeamOptions, BeamSearch
from asr_bn.decoding.build_graph import make_graph
from asr_bn.decoding.graph import DecodingGraph
from asr_bn.decoding.hmms import Hmm, Hmms
from asr_bn.decoding.lexicon_fst import Lexicon
from asr_bn.decoding.self_loops import SELF_LOOP_SCALE
from asr_bn.kaldi_io.context_dependency import ContextDependency
from asr_bn.kaldi_io.transition_model import TransitionModel
from asr_bn.system.arrays import Floats
from tests.helpers.graphs import check_same_graph, grammar_of, lexicon_dir
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd

kaldifst = pytest.importorskip("kaldifst")
pytest.importorskip("kaldi_decoder")
if importlib.util.find_spec("kaldilm") is None:  # imported only in processes of its own
    pytest.skip("no kaldilm", allow_module_level=True)

ALI, MONO = SYNTHETIC / "ali", SYNTHETIC / "variants/mono/final.mdl"
Ngram = tuple[str, ...]


def run(*arguments: object) -> str:
    """``asr-bn make-graph``: what it said, or its error."""
    result = CliRunner().invoke(app, ["make-graph", *map(str, arguments)])
    return f"error: {result.exception}" if result.exit_code else result.stderr


# ------------------------------------------------------------------------------------------ a lang folder


def symbols(path: Path) -> dict[str, int]:
    return {name: int(number) for name, number in (line.split() for line in path.read_text().splitlines())}


def write_fst(path: Path, lines: Sequence[Sequence[object]]) -> None:
    fst = kaldifst.compile("".join(" ".join(map(str, line)) + "\n" for line in lines))
    fst.write(str(path))


def write_lang(folder: Path) -> Path:
    """As ``prepare_lang.sh`` writes it, for the fixture's system and grammar: Kaldi numbered the words."""
    (folder / "phones").mkdir(parents=True)
    words, phones = symbols(SYNTHETIC / "graph/words.txt"), symbols(ALI / "phones.txt")
    for name, source in (("words.txt", SYNTHETIC / "graph/words.txt"), ("phones.txt", ALI / "phones.txt")):
        (folder / name).write_bytes(source.read_bytes())
    disambig = [number for name, number in phones.items() if name.startswith("#")]
    (folder / "phones/disambig.int").write_text("".join(f"{number}\n" for number in disambig))
    entries, highest = Lexicon.read(lexicon_dir(folder / "dict"), ALI / "phones.txt").disambiguated()
    half, count = math.log(2), itertools.count(4)
    lines: list[list[object]] = [[0, 1, 0, 0, half], [0, 2, 0, 0, half], [2, 3, phones["SIL"], 0]]
    lines.append([3, 1, phones[f"#{highest + 1}"], 0])
    for word, _, pronunciation in entries:
        state, output = 1, words[word]
        for phone in pronunciation[:-1]:
            target = next(count)
            lines.append([state, target, phones[phone], output])
            state, output = target, 0
        lines += [[state, target, phones[pronunciation[-1]], output, half] for target in (1, 2)]
    lines += [[1, 1, phones["#0"], words["#0"]], [1]]
    write_fst(folder / "L_disambig.fst", lines)
    g_txt = [line.split() for line in (SYNTHETIC / "graph/G.txt").read_text().splitlines()]
    write_fst(
        folder / "G.fst", [[*a[:2], words[a[2]], words[a[3]], *a[4:]] if len(a) > 2 else a for a in g_txt]
    )
    return folder


def test_a_lang_folders_graph_is_kaldis(tmp_path: Path) -> None:
    lang = write_lang(tmp_path / "lang_test")
    assert " states, " in run(lang, ALI, tmp_path / "graph")
    check_same_graph(tmp_path / "graph", SYNTHETIC / "graph", ALI / "final.mdl", (20, 50, 120))
    words = (tmp_path / "graph/words.txt").read_text().split()
    assert words == (SYNTHETIC / "graph/words.txt").read_text().split()


def test_g_fst_goes_with_a_dictionary_too_and_is_one_of_three(tmp_path: Path) -> None:
    lang = write_lang(tmp_path / "lang_test")
    assert " states, " in run(lang / "dict", ALI, tmp_path / "graph", "--lang", lang)
    check_same_graph(tmp_path / "graph", SYNTHETIC / "graph", ALI / "final.mdl", (20, 50, 120))
    grammar = tmp_path / "grammar.txt"
    grammar.write_text(grammar_of(SYNTHETIC / "graph/G.txt"))
    assert " states, " in run(lang, ALI, tmp_path / "other", "--grammar", grammar)
    check_same_graph(tmp_path / "other", SYNTHETIC / "graph", ALI / "final.mdl", (20, 50))
    refused = "error: a graph needs either an ARPA file, a grammar, or the G.fst of a lang folder"
    assert run(lang / "dict", ALI, tmp_path / "no") == refused
    assert run(lang / "dict", ALI, tmp_path / "no", "--lang", lang, "--grammar", grammar) == refused


def test_a_lang_folder_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    lang = write_lang(tmp_path / "lang_test")
    text = (lang / "phones.txt").read_text()
    (lang / "phones.txt").write_text(text.replace("SIL 1\n", "SIL 2\n").replace("SIL_B 2\n", "SIL_B 1\n"))
    assert "phones.txt: SIL" in (said := run(lang, ALI, tmp_path / "g")), said
    assert "the lang folder of another system" in said
    (lang / "phones.txt").write_text(text)
    words = (lang / "words.txt").read_text()
    (lang / "words.txt").write_text("".join(line + "\n" for line in words.splitlines() if "the " not in line))
    assert "which words.txt beside it lacks" in run(lang, ALI, tmp_path / "g")
    (lang / "words.txt").write_text(words.replace("<eps> 0\n", ""))
    assert "no <eps> with the number 0" in run(lang, ALI, tmp_path / "g")
    (lang / "words.txt").write_text(words)
    other = write_lang(tmp_path / "other")
    (other / "words.txt").write_text(f"{words}zebra {len(words.splitlines())}\n")
    assert "words.txt: other words than in" in run(lang, ALI, tmp_path / "g", "--lang", other)
    (lang / "phones/disambig.int").write_text("#0\n")
    assert "disambig.int: expected an integer, found '#0'" in run(lang, ALI, tmp_path / "g")
    (lang / "G.fst").unlink()
    assert "G.fst" in run(lang, ALI, tmp_path / "g")
    assert not (tmp_path / "g").exists()


def test_words_of_g_fst_that_the_lexicon_lacks_are_said(tmp_path: Path) -> None:
    lang = write_lang(tmp_path / "lang_test")
    lexicon = lang / "dict/lexicon.txt"
    text = lexicon.read_text()
    lexicon.write_text("".join(line + "\n" for line in text.splitlines() if line.split()[0] != "the"))
    said = run(lang / "dict", ALI, tmp_path / "graph", "--lang", lang)
    lost = sum(line.split()[2:3] == ["the"] for line in (SYNTHETIC / "graph/G.txt").read_text().splitlines())
    assert said.endswith(f"G.fst: {lost} arcs left out, words not in the lexicon: the\n")
    lexicon.write_text("!sil SIL\n")
    assert "words is in the lexicon" in run(lang / "dict", ALI, tmp_path / "graph", "--lang", lang)


@needs_fsdd
@pytest.mark.parametrize("lexicon", ["lang_test_bg", "local/dict"])
def test_a_real_lang_folders_graph_is_kaldis(tmp_path: Path, lexicon: str) -> None:
    system = FSDD / "exp/tri4b_ali_train"
    options = [] if lexicon == "lang_test_bg" else ["--lang", FSDD / "data/lang_test_bg"]
    run(FSDD / "data" / lexicon, system, tmp_path / "graph", *options)
    check_same_graph(tmp_path / "graph", FSDD / "exp/tri4b/graph", system / "final.mdl", (5, 14, 40, 80, 150))
    run(FSDD / "data/local/dict", system, tmp_path / "arpa", "--arpa", FSDD / "data/local/bg.arpa")
    assert (tmp_path / "graph/HCLG.fst").read_bytes() == (tmp_path / "arpa/HCLG.fst").read_bytes()


# ---------------------------------------------------------------------------------- ARPA files and lexicons

ARPA = """\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-1.0\t</s>
-99\t<s>\t-0.30
-0.6\topen\t-0.20
-0.7\tthe\t-0.10
-0.9\tdoor\t-0.25

\\2-grams:
-0.4\t<s> open
-0.3\topen the
-0.2\tthe </s>

\\end\\
"""


@pytest.fixture
def graph_of(tmp_path: Path) -> Callable[..., str | bytes]:
    """Makes a graph from the text of an ARPA file (and a lexicon): its bytes, or what was said instead."""
    folder = lexicon_dir(tmp_path / "dict")

    def make(arpa: bytes, lexicon: str | None = None, name: str = "lm.arpa") -> str | bytes:
        (tmp_path / name).write_bytes(arpa)
        if lexicon is not None:
            (folder / "lexicon.txt").write_text(lexicon)
        said = run(folder, ALI, tmp_path / "graph", "--arpa", tmp_path / name)
        graph = tmp_path / "graph/HCLG.fst"
        if said.startswith("error: ") or "note: " in said:
            return said.replace(f"{tmp_path}/", "")
        return graph.read_bytes()

    return make


def test_an_arpa_file_is_read_as_it_is_found(graph_of: Callable[..., str | bytes]) -> None:
    plain = graph_of(ARPA.encode())
    assert isinstance(plain, bytes)
    assert graph_of(gzip.compress(ARPA.encode()), name="lm.arpa.gz") == plain
    assert graph_of(ARPA.replace("\n", "\r\n").encode()) == plain
    assert graph_of(("a comment\n\n" + ARPA.replace("\t", " ")).encode()) == plain


def test_words_that_the_lexicon_lacks_are_said_with_their_n_grams(
    graph_of: Callable[..., str | bytes],
) -> None:
    said = graph_of(ARPA.replace("the", "zhe").encode())
    assert isinstance(said, str)
    assert said.endswith(  # the unigram and two bigrams
        "\nnote: lm.arpa: 3 n-grams left out, words not in the lexicon: zhe\n"
    )
    said = graph_of(ARPA.replace("the", "zhe").replace("door", "dör").replace("open", "öpen").encode())
    assert said == "error: lm.arpa: none of its 3 words is in dict/lexicon.txt"


@pytest.mark.parametrize(
    ("arpa", "message"),
    [
        (
            "\n".join(line for line in ARPA.splitlines() if "</s>" not in line),
            "has no </s>, so that no sentence ends",
        ),
        (
            "\n".join(line for line in ARPA.splitlines() if "<s>" not in line),
            "has no <s>, so that no sentence begins",
        ),
        ("\ufeff" + ARPA, "begins with a byte-order mark"),
        ("", "kaldilm cannot make a graph of it (line 1 []: \\data\\ section missing or empty.)"),
        (ARPA.replace("\\end\\\n", ""), "kaldilm cannot make a graph of it (line "),
        (ARPA.replace("-0.3\topen", "-0,3\topen"), "line 14: expected a number, found '-0,3'"),
        (ARPA.replace("-0.25", "-0.25x"), "line 10: expected a number, found '-0.25x'"),
    ],
)
def test_an_arpa_file_that_makes_no_graph_says_why(
    graph_of: Callable[..., str | bytes], arpa: str, message: str
) -> None:
    said = graph_of(arpa.encode())
    assert isinstance(said, str)
    assert said.startswith(f"error: lm.arpa: {message}")


@pytest.mark.parametrize("word", ["<eps>", "#0", "<s>", "</s>"])
def test_words_that_kaldi_keeps_for_itself_are_refused(
    tmp_path: Path, graph_of: Callable[..., str | bytes], word: str
) -> None:
    said = graph_of(ARPA.encode(), f"the DH AH\n{word} SIL\n")
    assert (
        said == f"error: dict/lexicon.txt, line 2: {word!r} is no word of a lexicon; Kaldi has it for itself"
    )
    (tmp_path / "dict/lexicon.txt").write_text("the DH AH\n")
    (tmp_path / "grammar.txt").write_text(f"SENTENCE = the {word}\n")
    said = run(tmp_path / "dict", ALI, tmp_path / "graph", "--grammar", tmp_path / "grammar.txt")
    assert said == f"error: the grammar's word {word!r} is not in the lexicon (1 missing)"


def test_a_lexicon_without_words_is_refused(graph_of: Callable[..., str | bytes]) -> None:
    assert graph_of(ARPA.encode(), "\n \n") == "error: dict/lexicon.txt: no pronunciations in it"


@pytest.mark.parametrize("name", ["final.mdl.gz", "final.mdl.txt.gz", "final.alimdl"])
def test_a_model_under_any_of_its_names_is_copied_unpacked(tmp_path: Path, name: str) -> None:
    system = tmp_path / "exp"
    system.mkdir()
    binary = (ALI / "final.mdl").read_bytes()
    text = (SYNTHETIC / "variants/final.mdl.txt.gz").read_bytes()
    contents = {"final.mdl.gz": gzip.compress(binary), "final.mdl.txt.gz": text, "final.alimdl": binary}
    (system / name).write_bytes(contents[name])
    for other in ("phones.txt", "tree"):
        (system / other).write_bytes((ALI / other).read_bytes())
    (tmp_path / "grammar.txt").write_text("SENTENCE = open the door\n")
    run(lexicon_dir(tmp_path / "dict"), system, tmp_path / "graph", "--grammar", tmp_path / "grammar.txt")
    copy = (tmp_path / "graph/final.mdl").read_bytes()
    assert copy == (gzip.decompress(text) if "txt" in name else binary)
    assert DecodingGraph.load(tmp_path / "graph").model.num_pdfs == 72


# -------------------------------------------------------------------------------- sentences without a graph


def cheapest_way(hmms: Sequence[Hmm], frames: Floats, tid_to_pdf: NDArray[np.int32]) -> float:
    """Cost of the best path through ``hmms`` one after the other, infinite if it does not fit the frames."""
    steps: list[dict[int, list[tuple[int, float, int]]]] = []
    for hmm in hmms:
        stay = {t.source: math.exp(t.log_prob) for t in hmm.transitions if t.source == t.target}
        step: dict[int, list[tuple[int, float, int]]] = {}
        for t in hmm.transitions:
            cost = -SELF_LOOP_SCALE * t.log_prob
            if t.source != t.target:
                cost = (1 - SELF_LOOP_SCALE) * math.log(1 - stay[t.source]) - t.log_prob
            step.setdefault(t.source, []).append((t.target, cost, int(tid_to_pdf[t.transition_id])))
        steps.append(step)
    best = {(0, 0): 0.0}
    for frame in frames:
        after: dict[tuple[int, int], float] = {}
        for (place, state), cost in best.items():
            for target, added, pdf in steps[place][state] if place < len(steps) else ():
                at = (place + 1, 0) if target == hmms[place].end_state else (place, target)
                after[at] = min(after.get(at, math.inf), cost + added + float(frame[pdf]))
        best = after
    return best.get((len(steps), 0), math.inf)


class Sentences:
    """Costs of sentences with a lexicon and a model, whatever silence is best in them."""

    def __init__(self, lexicon: Lexicon, mdl: Path, tree: Path | None) -> None:
        self.lexicon, self.hmms, self.model = lexicon, Hmms.read(mdl), TransitionModel.read(mdl)
        self.tree = None if tree is None else ContextDependency.read(tree)

    def cost(self, words: Sequence[str], frames: Floats, silence_cost: Callable[..., float]) -> float:
        """Without the words' own: ``silence_cost`` is told of entries and of silence at each place."""
        entries = [[k for k, e in enumerate(self.lexicon.entries) if e[0] == word] for word in words]
        costs = []
        for chosen in itertools.product(*entries):
            for silences in itertools.product([False, True], repeat=len(words) + 1):
                phones = [self.lexicon.silence_phone] * silences[0]
                for entry, silence in zip(chosen, silences[1:], strict=True):
                    phones += [*self.lexicon.entries[entry][2], *[self.lexicon.silence_phone] * silence]
                fixed = silence_cost(chosen, silences)
                fixed -= sum(math.log(self.lexicon.entries[entry][1]) for entry in chosen)
                costs.append(fixed + cheapest_way(self._hmms(phones), frames, self.model.tid_to_pdf))
        return min(costs)

    def _hmms(self, phones: Sequence[str]) -> list[Hmm]:
        numbers = [self.lexicon.phone_ids[phone] for phone in phones]
        if self.tree is None:
            alone = self.hmms.without_context()
            return [alone[number] for number in numbers]
        padded = [0, *numbers, 0]
        return [self.hmms.in_context(padded[k : k + 3], self.tree) for k in range(len(numbers))]


def check_costs(
    graph_dir: Path,
    sentences: Sentences,
    lm_cost: Callable[[Sequence[str]], float],
    silence_cost: Callable[..., float],
    others: Sequence[Sequence[str]],
    lengths: Sequence[int],
    beam: float,
) -> None:
    """The best path costs what its sentence does, and no other sentence is cheaper."""
    search = BeamSearch(DecodingGraph.load(graph_dir), BeamOptions(beam=beam, max_active=1_000_000))
    rng, heard = np.random.default_rng(0), set()
    for num_frames in lengths:
        scores = 3 * rng.normal(size=(num_frames, sentences.model.num_pdfs)).astype(np.float32)
        path = search.decode(scores, 1.0)
        assert path.is_complete
        total = path.graph_cost + path.acoustic_cost
        own = sentences.cost(path.words, -scores, silence_cost) + lm_cost(path.words)
        assert total == pytest.approx(own, abs=0.03)  # minimization rounds costs to 1/1024 on its way
        for words in others:
            assert sentences.cost(words, -scores, silence_cost) + lm_cost(words) > total - 0.03
        heard.add(path.words)
    assert len(heard) > 1


SILPROB = """say 1.0 0.9 0.6 1.4 S EY
say 0.5 0.3 1.5 0.7 S IY
open 1.0 0.05 0.2 1.9 OW P AH N
the 1.0 0.5 1.0 1.0 DH AH
"""


def test_silence_is_as_likely_after_each_word_as_silprob_txt_says(tmp_path: Path) -> None:
    folder = lexicon_dir(tmp_path / "dict")
    (folder / "lexicon.txt").write_text("it must not be read\n")
    (folder / "lexiconp_silprob.txt").write_text(SILPROB)
    (folder / "silprob.txt").write_text("<s> 0.8\n</s>_s 2.5\n</s>_n 0.1\noverall 0.2\n")
    (tmp_path / "grammar.txt").write_text("SENTENCE = say WORD | WORD the | open say\nWORD = open | the\n")
    make_graph(folder, ALI / "final.mdl", tmp_path / "g", None, tmp_path / "grammar.txt", ALI / "tree")
    lexicon = Lexicon.read(folder, ALI / "phones.txt")
    numbers = [tuple(map(float, line.split()[2:5])) for line in SILPROB.splitlines()]

    def silence_cost(chosen: Sequence[int], silences: Sequence[bool]) -> float:
        probability = 0.8 if silences[0] else 0.2
        for entry, before, after in zip(chosen, silences, silences[1:], strict=False):
            share, factor_after_silence, factor_after_speech = numbers[entry]
            probability *= factor_after_silence if before else factor_after_speech
            probability *= share if after else 1 - share
        return -math.log(probability * (2.5 if silences[-1] else 0.1))

    shares = {"say open": 1 / 6, "say the": 1 / 6, "open the": 1 / 6, "the the": 1 / 6, "open say": 1 / 3}
    check_costs(
        tmp_path / "g",
        Sentences(lexicon, ALI / "final.mdl", ALI / "tree"),
        lambda words: -math.log(shares[" ".join(words)]),
        silence_cost,
        [sentence.split() for sentence in shares],
        (14, 18, 22, 26, 30, 36, 44),
        beam=1000.0,
    )


@pytest.mark.parametrize(
    ("silprob", "message"),
    [
        ("<s> 0.8\n</s>_s 2.5\n", "no line for </s>_n"),
        ("<s> 1.8\n</s>_s 2.5\n</s>_n 1\n", "a probability outside 0 to 1"),
        ("<s> x\n", "line 1: '<s> x', expected a name and a number"),
    ],
)
def test_silprob_txt_that_is_none_is_refused(tmp_path: Path, silprob: str, message: str) -> None:
    folder = lexicon_dir(tmp_path / "dict")
    (folder / "lexiconp_silprob.txt").write_text(SILPROB)
    (folder / "silprob.txt").write_text(silprob)
    with pytest.raises(ValueError, match=message):
        Lexicon.read(folder, ALI / "phones.txt")
    (folder / "lexiconp_silprob.txt").write_text("say 1.0 1.5 0.6 1.4 S EY\n")
    with pytest.raises(ValueError, match=r"silprob\.txt, line 1: .*a probability of silence outside 0 to 1"):
        Lexicon.read(folder, ALI / "phones.txt")


def pruned_trigrams(words: Sequence[str], total: int) -> dict[Ngram, tuple[float, float]]:
    """All unigrams and bigrams, and so many random trigrams: log10 of probability and backoff weight."""
    rng = random.Random(0)
    bigrams = list(itertools.product(["<s>", *words], [*words, "</s>"]))
    trigrams = [(*pair, word) for pair in bigrams if pair[1] != "</s>" for word in (*words, "</s>")]
    ngrams: list[Ngram] = [("<s>",), ("</s>",), *((word,) for word in words), *bigrams]
    ngrams += rng.sample(trigrams, total - len(ngrams))
    # Longer n-grams are likelier, so that a graph, which may back off where it need not, gains nothing by it.
    return {n: (-round(rng.uniform(3.3, 4) - len(n), 4), -round(rng.uniform(0.1, 1), 4)) for n in ngrams}


def arpa_text(ngrams: dict[Ngram, tuple[float, float]]) -> str:
    orders = [[ngram for ngram in ngrams if len(ngram) == order] for order in (1, 2, 3)]
    lines = ["\\data\\", *(f"ngram {k}={len(group)}" for k, group in enumerate(orders, start=1))]
    for order, group in enumerate(orders, start=1):
        lines += ["", f"\\{order}-grams:"]
        for ngram in group:
            probability, backoff = ngrams[ngram]
            has_backoff = order < 3 and ngram[-1] != "</s>"
            lines.append(f"{probability}\t{' '.join(ngram)}" + (f"\t{backoff}" if has_backoff else ""))
    return "\n".join([*lines, "", "\\end\\", ""])


def katz_cost(ngrams: dict[Ngram, tuple[float, float]], words: Sequence[str]) -> float:
    """Negated natural log of a sentence's probability, backing off where an n-gram is missing."""

    def log10(history: Ngram, word: str) -> float:
        if (*history, word) in ngrams:
            return ngrams[(*history, word)][0]
        return (ngrams[history][1] if history in ngrams else 0.0) + log10(history[1:], word)

    symbols = ["<s>", *words, "</s>"]
    return -math.log(10) * sum(
        log10(tuple(symbols[max(0, k - 2) : k]), symbols[k]) for k in range(1, len(symbols))
    )


@pytest.mark.parametrize("system", ["monophone", "tri4b"])
def test_a_trigram_model_of_100000_n_grams(tmp_path: Path, system: str) -> None:
    mdl, tree = (MONO, None) if system == "monophone" else (ALI / "final.mdl", ALI / "tree")
    folder = lexicon_dir(tmp_path / "dict")
    (folder / "phones.txt").write_bytes((ALI / "phones.txt").read_bytes())
    lexicon = Lexicon.read(folder)
    words = [word for word in lexicon.words() if word[0] not in "<!"]
    ngrams = pruned_trigrams(words, 100_000)
    with gzip.open(tmp_path / "tg.arpa.gz", "wt") as stream:
        stream.write(arpa_text(ngrams))
    make_graph(folder, mdl, tmp_path / "graph", tmp_path / "tg.arpa.gz", None, tree)
    rng = random.Random(1)
    others = [rng.choices(words, k=k) for k in (1, 1, 2, 2, 2)]
    check_costs(
        tmp_path / "graph",
        Sentences(lexicon, mdl, tree),
        lambda sentence: katz_cost(ngrams, sentence),
        lambda chosen, silences: len(silences) * math.log(2),
        others,
        (9, 14, 18, 22),
        beam=100.0,
    )
