"""The stages of a GMM system: each trains on the alignments of the one before, and leaves its own."""

import gzip
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from asr_bn.audio.source import AudioSource
from asr_bn.data.alignments import ali_archives
from asr_bn.decoding.alignment.fit import lines
from asr_bn.decoding.alignment.lexicon import Pronunciations
from asr_bn.decoding.hmms import Hmms
from asr_bn.gmm.context import ContextShard, ContextTrainer
from asr_bn.gmm.corpus import GmmCorpus
from asr_bn.gmm.mono import FlatStart, MonoShard, MonoTrainer
from asr_bn.gmm.phone_sets import PhoneSets
from asr_bn.gmm.shard import Shards, deal
from asr_bn.gmm.system import GmmOptions, GmmSystem
from asr_bn.gmm.write_mdl import encode_int_vector_table
from asr_bn.kaldi_io.int_vector_table import read_int_vectors
from asr_bn.system.arrays import IntVector
from asr_bn.system.files import write_bytes, write_text

_FRAMES_A_PDF = 10
_OUTPUTS = ("final.mdl", "tree", "phones.txt", "num_jobs", "failed.txt")


def outputs_of(folders: Sequence[Path], num_jobs: int) -> list[Path]:
    """List the files that a stage leaves in its alignment folders."""
    archives = [f"ali.{job}.gz" for job in range(1, num_jobs + 1)]
    return [folder / name for folder in folders for name in (*_OUTPUTS, *archives)]


@dataclass(frozen=True)
class GmmTraining:
    """What all stages train on.

    Attributes:
        lexicon: the words' pronunciations.
        sets: the phones.
        phones_txt: text of ``phones.txt``.
        corpus: to train on, and to align.
    """

    lexicon: Pronunciations
    sets: PhoneSets
    phones_txt: str
    corpus: GmmCorpus

    @classmethod
    def read(
        cls,
        data_dir: Path,
        lexicon: Path,
        audio: AudioSource,
        out: Path,
        oov: str | None = None,
        silence_phone: str | None = None,
    ) -> "GmmTraining":
        """Read a data folder, and a lang folder, dictionary folder or lexicon; write ``out/phones.txt``.

        Raises:
            OSError: a file is missing.
            ValueError: see `PhoneSets.read`, `Pronunciations.read` and `GmmCorpus.read`.
        """
        sets = PhoneSets.read(lexicon, silence_phone)
        phones_txt = sets.phones_txt(lexicon)
        write_text(out / "phones.txt", phones_txt)
        words = Pronunciations.read(lexicon, out / "phones.txt", silence_phone, oov)
        sets.check(words)
        return cls(words, sets, phones_txt, GmmCorpus.read(data_dir, words, audio))

    def run(
        self,
        stage: str,
        options: GmmOptions,
        before: Path | None,
        out: Path,
        others: Mapping[Path, GmmCorpus] | None = None,
    ) -> None:
        """Train one of `STAGES`, and align the corpus into ``out``.

        Args:
            before: alignment folder of the stage before, of the same corpus; None for monophones.
            others: more corpora to align with the trained system, by their folders.

        Raises:
            ValueError: too little speech, or no utterance of a corpus can be aligned.
        """
        if before is None:
            start = FlatStart.of(self.sets, self.corpus.feats)
            self._check_size(len(start.system.mixtures))
            mono, own = MonoTrainer(start, self.sets, options), (start.transition_model, start.tree)
            with self._mono_shards(own, self.corpus, options) as shards:
                mono.train(shards)
                self._finish(out, self.corpus, mono, shards, options)
            for folder, corpus in (others or {}).items():
                with self._mono_shards(own, corpus, options) as shards:
                    self._finish(folder, corpus, mono, shards, options)
            return
        self._check_size(len(self.sets.sets))
        with self._context_shards(self.corpus, options, alignments_of(before)) as shards:
            hmms, lda = Hmms.read(before / "final.mdl"), stage == "lda-mllt"
            context = ContextTrainer(shards, hmms, self.sets, options, lda)
            context.train(shards)
            self._finish(out, self.corpus, context, shards, options)
        for folder, corpus in (others or {}).items():
            with self._context_shards(corpus, options, {}) as shards:
                self._finish(folder, corpus, context, shards, options)

    def _check_size(self, num_pdfs: int) -> None:
        if self.corpus.num_frames < _FRAMES_A_PDF * num_pdfs:
            frames = self.corpus.num_frames
            raise ValueError(f"{self.corpus.path}: {frames} frames are too few to train {num_pdfs} pdfs on")

    def _mono_shards(
        self, start: tuple[object, ...], corpus: GmmCorpus, options: GmmOptions
    ) -> AbstractContextManager[Shards]:
        runs = deal(corpus.words, options.num_jobs)
        parts = [(_part(corpus.words, run), _part(corpus.feats, run)) for run in runs]
        return Shards(MonoShard, [((*start, self.lexicon), *part) for part in parts])

    def _context_shards(
        self, corpus: GmmCorpus, options: GmmOptions, known: Mapping[str, IntVector]
    ) -> AbstractContextManager[Shards]:
        runs = deal(corpus.words, options.num_jobs)
        tables = (corpus.words, corpus.feats, known)
        return Shards(
            ContextShard, [(self.lexicon, *(_part(table, run) for table in tables)) for run in runs]
        )

    def _finish(
        self,
        out: Path,
        corpus: GmmCorpus,
        trainer: MonoTrainer | ContextTrainer,
        shards: Shards,
        options: GmmOptions,
    ) -> None:
        """Align a corpus, write its folder, and name the utterances that are left out."""
        lost = trainer.align(shards)
        reason = (
            f"its text is too long for it, or no path within a beam of {options.retry_beam:g} (--retry-beam)"
        )
        failed = corpus.failed | dict.fromkeys(lost, reason)
        for utt_id, why in failed.items():
            print(f"{utt_id}: not aligned: {why}", file=sys.stderr)
        count = len(corpus.words) - len(lost)
        if not count:
            raise ValueError(f"{corpus.path}: no utterance could be aligned")
        _write_folder(out, trainer.system, shards.call("current"), self.phones_txt)
        write_text(out / "failed.txt", lines(failed))
        sizes = f"{len(trainer.system.mixtures)} pdfs, {trainer.system.num_gauss} Gaussians"
        gain = f"log likelihood {trainer.log_likelihoods[0]:.2f} to {trainer.log_likelihoods[-1]:.2f} a frame"
        print(f"{out}: {count} utterances aligned, {len(failed)} failed; {sizes}; {gain}", file=sys.stderr)


def alignments_of(ali_dir: Path) -> dict[str, IntVector]:
    """Read the transition-ids of every utterance of an alignment folder."""
    return {utt_id: tids for path in ali_archives(ali_dir) for utt_id, tids in read_int_vectors(path)}


def _part(table: Mapping[str, object], utt_ids: Sequence[str]) -> dict[str, object]:
    return {utt_id: table[utt_id] for utt_id in utt_ids if utt_id in table}


def _write_folder(
    path: Path, system: GmmSystem, alignments: Sequence[Mapping[str, IntVector]], phones_txt: str
) -> None:
    """Write an alignment folder as Kaldi's ``steps/align_si.sh`` leaves it; ``num_jobs`` last."""
    (path / "num_jobs").unlink(missing_ok=True)
    system.write(path)
    write_text(path / "phones.txt", phones_txt)
    for job, shard in enumerate(alignments, start=1):
        write_bytes(path / f"ali.{job}.gz", gzip.compress(encode_int_vector_table(shard), mtime=0))
    write_text(path / "num_jobs", f"{len(alignments)}\n")
