"""The corpus's grammar: hand-written small grammars, and properties of the real one."""

import random
import re
from pathlib import Path

import pytest

from recipes.mini.grammar import EMPTY, Grammar, is_rule_name


def _grammar(tmp_path: Path, text: str) -> Grammar:
    path = tmp_path / "grammar.txt"
    path.write_text(text)
    return Grammar.read(path)


def test_expands_to_exactly_the_language_of_a_small_grammar(tmp_path: Path) -> None:
    grammar = _grammar(
        tmp_path, "# comment\nSENTENCE = turn STATE the lamp WHEN\n\nSTATE = on | off\nWHEN = now | -\n"
    )
    rng = random.Random(0)
    sentences = {" ".join(grammar.sentence(rng)) for _ in range(100)}
    assert sentences == {
        "turn on the lamp now",
        "turn off the lamp now",
        "turn on the lamp",
        "turn off the lamp",
    }
    assert grammar.vocabulary() == ["lamp", "now", "off", "on", "the", "turn"]


@pytest.mark.parametrize("text", ["SENTENCE turn on\n", "sentence = turn on\n", "SENTENCE = turn STATE\n"])
def test_refuses_what_is_not_a_grammar(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"grammar\.txt: (expected|no rule defines STATE)"):
        _grammar(tmp_path, text)


def test_the_grammar_has_several_hundred_words_and_no_recursion() -> None:
    grammar = Grammar.read()
    assert 500 <= len(grammar.vocabulary()) <= 1000
    assert all(re.fullmatch(r"[a-z]+", word) for word in grammar.vocabulary())

    def depth(name: str, above: tuple[str, ...]) -> int:
        assert name not in above, f"{name} is recursive"
        parts = [part for alternative in grammar.rules[name] for part in alternative if is_rule_name(part)]
        return 1 + max((depth(part, (*above, name)) for part in parts), default=0)

    assert depth("SENTENCE", ()) >= 3
    reachable = {"SENTENCE"}
    while (
        new := {s for name in reachable for a in grammar.rules[name] for s in a if is_rule_name(s)}
        - reachable
    ):
        reachable |= new
    assert reachable == set(grammar.rules)
    assert EMPTY not in grammar.vocabulary()


def test_sentences_vary_and_follow_the_seed() -> None:
    grammar = Grammar.read()

    def sentences(seed: int) -> list[str]:
        rng = random.Random(seed)
        return [" ".join(grammar.sentence(rng)) for _ in range(300)]

    assert sentences(1) == sentences(1)
    assert len(set(sentences(1))) > 280
    lengths = [len(sentence.split()) for sentence in sentences(1)]
    assert min(lengths) >= 3 and 6 <= sum(lengths) / len(lengths) <= 10
