"""Pronunciations and the graphs of texts, against hand-written ones and Kaldi's lang folder."""

import math
from pathlib import Path

import pytest

from asr_bn.decoding.alignment.lexicon import Pronunciations
from asr_bn.decoding.alignment.word_graph import NO_WORD, word_graph
from tests.helpers.alignment import dict_dir
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd

PHONES = SYNTHETIC / "ali/phones.txt"
LEXICON = "<unk> 1.0 SPN_S\na 1.0 AE_S\na 0.5 EY_S\nadd 1.0 AE_B D_E\n"
Way = tuple[tuple[str, int], ...]


def ways(lexicon: Pronunciations, text: str) -> dict[Way, float]:
    """All paths: phones with the places of their words, and the cost of each."""
    graph = word_graph(lexicon, lexicon.numbers(text.split()))
    names = {number: name for name, number in lexicon.phone_ids.items()}
    found: dict[Way, float] = {}
    waiting: list[tuple[int, Way, float]] = [(graph.fst.start, (), 0.0)]
    while waiting:
        state, way, cost = waiting.pop()
        if graph.fst.finals[state] < math.inf:
            found[way] = cost + float(graph.fst.finals[state])
        first, end = graph.fst.first_arcs[state : state + 2]
        for phone, label, more, target in graph.fst.arcs[first:end].tolist():
            step = ((names[phone], graph.words[label]),) if phone else ()
            waiting.append((target, way + step, cost + more))
    return found


def test_every_pronunciation_and_silence_has_a_path(tmp_path: Path) -> None:
    lexicon = Pronunciations.read(dict_dir(tmp_path / "dict", LEXICON), PHONES, oov_word="<unk>")
    expected = {}
    for before in (0, 1):
        for between in (0, 1):
            for after in (0, 1):
                for phone, probability in (("AE_S", 1.0), ("EY_S", 0.5)):
                    way = [("SIL", NO_WORD)] * before + [(phone, 0)] + [("SIL", NO_WORD)] * between
                    way += [("AE_B", 1), ("D_E", 1)] + [("SIL", NO_WORD)] * after
                    expected[tuple(way)] = 3 * math.log(2) - math.log(probability)
    assert ways(lexicon, "a add") == pytest.approx(expected)


def test_unknown_words_are_the_oov_word_or_refused(tmp_path: Path) -> None:
    folder = dict_dir(tmp_path / "dict", LEXICON)
    (spoken,) = ({name for name, _ in way} - {"SIL"} for way in list(ways_of_zebra(folder, "<unk>"))[:1])
    assert spoken == {"SPN_S"}
    with pytest.raises(ValueError, match="'zebra' has no pronunciation in .*lexiconp.txt; add one"):
        ways_of_zebra(folder, None)
    with pytest.raises(ValueError, match="has no word '<UNK>' to stand for unknown ones"):
        ways_of_zebra(folder, "<UNK>")
    (folder / "oov.txt").write_text("<unk>\n")
    assert ways_of_zebra(folder, None) == ways_of_zebra(folder, "<unk>")


def ways_of_zebra(folder: Path, oov: str | None) -> dict[Way, float]:
    return ways(Pronunciations.read(folder, PHONES, oov_word=oov), "zebra")


def test_words_that_are_added_are_as_if_they_had_been_there(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("two T UW\nadd EY D\n")
    short = Pronunciations.read(dict_dir(tmp_path / "short", LEXICON), PHONES)
    long_lexicon = LEXICON + "two 1.0 T_B UW_E\nadd 1.0 EY_B D_E\n"
    longer = Pronunciations.read(dict_dir(tmp_path / "long", long_lexicon), PHONES)
    extended = short.with_entries(tmp_path / "more.txt")
    for text in ("two", "add two a", "a add"):
        assert ways(extended, text) == pytest.approx(ways(longer, text))
    (tmp_path / "more.txt").write_text("two T XX\n")
    with pytest.raises(ValueError, match=r"more\.txt: phone 'XX_E' of 'two' is not in phones\.txt"):
        short.with_entries(tmp_path / "more.txt")


def test_a_file_needs_to_be_told_the_silence_phone(tmp_path: Path) -> None:
    path = tmp_path / "my.dict"
    path.write_text("a AE\nadd AE D\n")
    with pytest.raises(ValueError, match="no optional_silence.txt beside it"):
        Pronunciations.read(path, PHONES)
    with pytest.raises(ValueError, match="silence phone 'XX'|phone 'XX'"):
        Pronunciations.read(path, PHONES, silence_phone="XX")
    lexicon = Pronunciations.read(path, PHONES, silence_phone="SIL")
    assert (("AE_B", 0), ("D_E", 0)) in ways(lexicon, "add")


@needs_fsdd
def test_a_lang_folder_has_the_ways_of_its_dictionary() -> None:
    phones = FSDD / "exp/tri4b_ali_dev/phones.txt"
    lang = Pronunciations.read(FSDD / "data/lang", phones)
    local = Pronunciations.read(FSDD / "data/local/dict", phones)
    assert lang.oov_word == "<UNK>" and lang.silence_phone == "SIL"
    assert ways(lang, "ZERO ONE") == pytest.approx(ways(local, "ZERO ONE"), abs=1e-5)
    more = ways(lang, "ELEVEN")
    assert {name for way in more for name, _ in way} == {"SIL", "SPN_S"}
