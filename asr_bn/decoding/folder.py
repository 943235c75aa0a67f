"""From a data folder to a folder of answers."""

import tempfile
from pathlib import Path

from asr_bn.decoding.answers import AnswerMaker, write_answers
from asr_bn.decoding.choice import AnswerOptions, Choice
from asr_bn.decoding.corpus import CorpusDecoder, DecodedCorpus
from asr_bn.decoding.references import References, TuningData
from asr_bn.decoding.search_options import ScoreWeights
from asr_bn.decoding.tuning import candidates, share
from asr_bn.decoding.word_errors import WordErrors
from asr_bn.kaldi_io.compact_lattice import CompactLattice
from asr_bn.system.files import write_json, write_text

LATTICES = "lat.1.gz"
Summary = dict[str, object]
"""What ``decode.json`` holds."""


def decode_folder(
    decoder: CorpusDecoder,
    data_dir: Path,
    out_dir: Path,
    references: References | None,
    tuning: TuningData | None,
    options: AnswerOptions,
) -> tuple[Summary, WordErrors | None]:
    """Decode ``data_dir`` into ``out_dir``; return what ``decode.json`` says, and the errors.

    Args:
        references: of ``data_dir``; None counts no errors.
        tuning: development data, on which whatever ``options`` leave open is chosen; None takes the scale of
            the search.
    """
    tried = candidates(options.acoustic_scale, options.word_penalty)
    if tuning is None:
        tried = [ScoreWeights(decoder.job.lattices.acoustic_scale, options.word_penalty or 0.0)]
    choice = Choice.given(tried[0], options)
    out_dir.mkdir(parents=True, exist_ok=True)
    if tuning is not None and tuning.folder != data_dir:
        with tempfile.TemporaryDirectory(prefix=".tune.", dir=out_dir) as folder:
            development = decoder.decode(str(tuning.folder), tried, Path(folder, LATTICES))
            choice = Choice.made_on(development, tuning, options)
        tried = [choice.weights]
    decoded = decoder.decode(str(data_dir), tried, out_dir / LATTICES)
    if tuning is not None and tuning.folder == data_dir:
        choice = Choice.made_on(decoded, tuning, options)
    return write_folder(decoded, out_dir, references, choice, options, decoder.frame_shift_s)


def write_folder(
    decoded: DecodedCorpus,
    out_dir: Path,
    references: References | None,
    choice: Choice,
    options: AnswerOptions,
    frame_shift_s: float,
) -> tuple[Summary, WordErrors | None]:
    """Write the answers of lattices, ``wer.txt`` and last ``decode.json``; see `decode_folder`."""
    maker = AnswerMaker(
        options.names, choice.weights, choice.posterior_scale, options.num_best, options.times
    )

    def rescored(lattice: CompactLattice) -> CompactLattice:
        if options.rescorer is None or choice.lm_scale is None:
            return lattice
        return options.rescorer.rescore(lattice, choice.list_weights).as_lattice(choice.lm_scale)

    answers = (maker.answer(utt_id, rescored(lattice)) for utt_id, lattice in decoded.lattices())
    written = write_answers(out_dir, answers, maker, frame_shift_s)
    summary, errors = choice.describe(), None if references is None else references.errors(written.words)
    if errors is not None:
        write_text(out_dir / "wer.txt", f"{errors}\n")
        summary |= describe(errors)
    counts = {"num_utterances": len(written.words), "num_frames": written.num_frames}
    write_json(out_dir / "decode.json", summary | counts | {"num_partial": decoded.num_partial})
    return summary | counts, errors


def describe(errors: WordErrors) -> Summary:
    """Convert errors to JSON; ``wer`` is a share, or null where no reference has a word."""
    return {
        "wer": share(errors),
        "errors": errors.total,
        "words": errors.num_words,
        "insertions": errors.insertions,
        "deletions": errors.deletions,
        "substitutions": errors.substitutions,
    }
