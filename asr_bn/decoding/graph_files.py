"""Files beside a graph: its word graph, for rescoring, and its pronunciations, for the times of words."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from asr_bn.decoding.arpa import BACKOFF, arpa_fst
from asr_bn.decoding.fst_file import FstArrays
from asr_bn.decoding.graph import to_arrays
from asr_bn.decoding.hmms import Hmms
from asr_bn.decoding.lang_dir import read_word_ids
from asr_bn.decoding.lattices.align_lexicon import ALIGN_LEXICON, AlignLexicon
from asr_bn.decoding.lattices.decoder import GrammarFiles
from asr_bn.decoding.lattices.grammar_costs import GrammarCosts
from asr_bn.decoding.lattices.word_times import WordTimes
from asr_bn.system.notes import print_note


@dataclass(frozen=True)
class GraphFiles:
    """Where they are.

    Attributes:
        graph_dir: with ``words.txt``.
        lang: a folder with ``G.fst`` and ``phones/align_lexicon.int``; None is ``graph_dir``.
    """

    graph_dir: Path
    lang: Path | None = None

    @property
    def grammar(self) -> Path:
        """The word graph that the graph was made of."""
        return (self.lang or self.graph_dir) / "G.fst"

    @property
    def align_lexicon(self) -> Path:
        """Pronunciations by number."""
        return (self.lang or self.graph_dir) / ALIGN_LEXICON

    def word_times(self, mdl: Path) -> WordTimes | None:
        """Read pronunciations and HMMs; None, which is said, where there are no pronunciations."""
        if not self.align_lexicon.is_file():
            print(f"{self.align_lexicon}: missing, so that words have no times; see --lang", file=sys.stderr)
            return None
        return WordTimes.of(AlignLexicon.read(self.align_lexicon), Hmms.read(mdl))

    def grammar_costs(self) -> GrammarCosts:
        """Read the word graph.

        Raises:
            OSError: it, or ``words.txt``, is missing.
            ValueError: it is damaged.
        """
        return GrammarCosts(self._read_grammar(), read_word_ids(self.graph_dir)[BACKOFF])

    def _read_grammar(self) -> FstArrays:
        if not self.grammar.is_file():
            reason = "no such word graph, whose costs are to be replaced; name its folder with --lang"
            raise FileNotFoundError(2, reason, str(self.grammar))
        return FstArrays.read(self.grammar)

    @contextmanager
    def grammars_for(self, arpa: Path | None) -> Iterator[GrammarFiles | None]:
        """Convert an ARPA file whose costs are to replace the graph's; None without one.

        Raises:
            OSError: it, or the word graph, is missing.
            ValueError: see `arpa_fst`.
        """
        if arpa is None:
            yield None
            return
        self._read_grammar()
        word_ids = read_word_ids(self.graph_dir)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "G.fst")
            words_txt = self.graph_dir / "words.txt"
            to_arrays(arpa_fst(arpa, word_ids, words_txt, print_note)).write_const(path)
            yield GrammarFiles(self.grammar, path, word_ids[BACKOFF])
