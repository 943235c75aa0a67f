"""The readers of Kaldi's files, and of whatever other text and models a Kaldi user has.

A reader refuses with ``ValueError`` that names the file; what it reads is not much larger than the file was.
No target opens a name that its input gives, since that could be any file, or a command.
"""

import atexit
import io
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import numpy as np

from asr_bn.decoding.arpa import copy_arpa
from asr_bn.decoding.fst_file import FstArrays
from asr_bn.decoding.grammar import Grammar
from asr_bn.decoding.hmms import Hmms
from asr_bn.decoding.lattices.align_lexicon import AlignLexicon
from asr_bn.decoding.lexicon_fst import Lexicon
from asr_bn.features.cmvn import Cmvn
from asr_bn.features.options import FbankOptions, read_channel
from asr_bn.kaldi_io.context_dependency import ContextDependency
from asr_bn.kaldi_io.data_dir import DataDir, read_spk2utt
from asr_bn.kaldi_io.int_vector_table import read_int_vectors
from asr_bn.kaldi_io.lattice_table import read_lattices
from asr_bn.kaldi_io.matrix_table import MatrixScp, MatrixWriter, read_matrices
from asr_bn.kaldi_io.phone_table import read_phone_names
from asr_bn.kaldi_io.transition_model import TransitionModel
from asr_bn.language_model.text import read_named_sentences
from asr_bn.language_model.vocabulary import Vocabulary
from fuzz.targets import Target

T = TypeVar("T")
_FOLDER = Path(tempfile.mkdtemp(prefix="asr-bn-fuzz-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
_GZIP_MAGIC = b"\x1f\x8b"


def _read(function: Callable[[], T], named: str) -> T | None:
    """What ``function`` reads, None where it refuses in a sentence that names the file."""
    try:
        return function()
    except ValueError as error:
        assert not isinstance(error, UnicodeError), error
        assert named in str(error), error
        return None


def _file(data: bytes, name: str = "file") -> Path:
    path = _FOLDER / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def _most_bytes(data: bytes) -> float:
    """What an array may take: a text matrix has a value in two bytes, a gzip file could hold anything."""
    return float("inf") if data.startswith(_GZIP_MAGIC) else 64 + 8 * len(data)


def matrices(data: bytes) -> None:
    """Read an archive of matrices: binary, compressed, text."""
    path = _file(data)

    def read() -> None:
        for utt_id, matrix in read_matrices(f"ark:{path}"):
            assert utt_id
            assert matrix.ndim == 2
            assert matrix.nbytes <= _most_bytes(data)

    _read(read, str(path))


def int_vectors(data: bytes) -> None:
    """Read an archive of integer vectors, binary or text."""
    path = _file(data)

    def read() -> None:
        for utt_id, vector in read_int_vectors(f"ark:{path}"):
            assert utt_id
            assert vector.dtype == np.int32
            assert vector.nbytes <= _most_bytes(data)

    _read(read, str(path))


def lattices(data: bytes) -> None:
    """An archive of compact lattices."""
    path = _file(data)

    def read() -> None:
        for utt_id, lattice in read_lattices(f"ark:{path}"):
            assert utt_id
            assert (lattice.target > lattice.source).all()
            assert lattice.num_states <= _most_bytes(data)

    _read(read, str(path))


def script(data: bytes) -> None:
    """Read a script file's lines; its names are not opened."""
    path = _file(data)
    scp = _read(lambda: MatrixScp(path), str(path))
    for utt_id in scp or ():
        assert scp is not None
        assert scp.rxfilename(utt_id)
        assert utt_id.encode().split() == [utt_id.encode()]


def matrix_range(data: bytes) -> None:
    """Read a range behind the name of a matrix of 20 rows and 3 columns."""
    archive = _FOLDER / "range.ark"
    if not archive.exists():
        with MatrixWriter(archive) as writer:
            writer.write("u", np.arange(60, dtype=np.float32).reshape(20, 3))
    text = b"".join(data.split()).replace(b"|", b"")
    path = _file(b"u %s:2[%s]\n" % (str(archive).encode(), text))
    matrix = _read(lambda: MatrixScp(path)["u"] if text else None, "range.ark" if text.isascii() else "")
    assert matrix is None or matrix.size


def data_dir(data: bytes) -> None:
    """Read a ``segments`` file beside a ``wav.scp`` of one recording, then as ``spk2utt``."""
    _file(b"r r.wav\n", "data/wav.scp")
    path = _file(data, "data/segments")
    said = list[str]()
    read = _read(lambda: DataDir.read(path.parent, say=said.append), "data")
    assert len(said) <= 6
    for utterance in read.utterances.values() if read else ():
        assert utterance.start is not None
        assert utterance.end is None or 0 <= utterance.start < utterance.end
    _read(lambda: read_spk2utt(path), str(path))


def transition_model(data: bytes) -> None:
    """Read a ``final.mdl``, binary or text: pdfs of transition-ids, and HMMs."""
    path = _file(data)
    model = _read(lambda: TransitionModel.read(path), str(path))
    assert model is None or model.num_pdfs > model.tid_to_pdf.max()
    hmms = _read(lambda: Hmms.read(path), str(path))
    assert hmms is None or sum(map(len, hmms.transitions.values())) <= hmms.num_transition_ids


def tree(data: bytes) -> None:
    """Read a decision tree and ask it a question."""
    path = _file(data)
    read = _read(lambda: ContextDependency.read(path), str(path))
    if read is not None:
        pdf_id = read.pdf_id([1] * read.context_width, 0)
        assert pdf_id is None or isinstance(pdf_id, int)


def fst(data: bytes) -> None:
    """Read a graph, const or vector; written as a vector FST it is the same."""
    path = _file(data)
    arrays = _read(lambda: FstArrays.read(path), str(path))
    if arrays is not None:
        assert arrays.arcs.nbytes + arrays.finals.nbytes <= _most_bytes(data)
        again = FstArrays.read(_file(arrays.vector_bytes(), "again"))
        assert again.arcs.tobytes() == arrays.arcs.tobytes()


def symbol_table(data: bytes) -> None:
    """Read a ``phones.txt`` or ``words.txt``."""
    path = _file(data)
    names = _read(lambda: read_phone_names(path), str(path))
    assert names is None or min(names) >= 0


def lexicon(data: bytes) -> None:
    """Read a ``lexiconp.txt`` beside three phones."""
    _file(b"<eps> 0\nSIL 1\na 2\nb 3\n", "dict/phones.txt")
    _file(b"SIL\n", "dict/optional_silence.txt")
    path = _file(data, "dict/lexiconp.txt")
    read = _read(lambda: Lexicon.read(path.parent), str(path))
    assert read is None or all(0 < probability <= 1 for _, probability, _ in read.entries)


def align_lexicon(data: bytes) -> None:
    """Read an ``align_lexicon.int``; written out, it is read again as the same."""
    path = _file(data)
    read = _read(lambda: AlignLexicon.read(path), str(path))
    if read is not None:
        read.write(_FOLDER / "again")
        again = AlignLexicon.read(_FOLDER / "again").phones_of
        assert {
            word: list(map(tuple, dict.fromkeys(found))) for word, found in read.phones_of.items()
        } == again


def arpa(data: bytes) -> None:
    """Survey an ARPA file beside a lexicon of one word; the copy for ``kaldilm`` is surveyed alike."""
    path, remarks = _file(data), list[str]()
    copies = [io.BytesIO(data), io.BytesIO(), io.BytesIO()]

    def read() -> None:
        surveys = [
            copy_arpa(copies[i], copies[i + 1], {b"a", b"<s>", b"</s>"}, path)
            for i in (0, 1)
            if not copies[i].seek(0)
        ]
        assert surveys[0] == surveys[1]
        assert copies[1].getvalue() == copies[2].getvalue()
        surveys[0].check(path, path, remarks.append)

    _read(read, str(path))


def grammar(data: bytes) -> None:
    """Read rules of words."""
    path = _file(data)
    read = _read(lambda: Grammar.read(path), str(path))
    assert read is None or all(words_of.split() == [words_of] for words_of in map(str.encode, read.words()))


def conf(data: bytes) -> None:
    """Read a conf file of ``compute-fbank-feats``; written out, it is read again as the same options."""
    path = _file(data)
    options = _read(lambda: FbankOptions.read_conf(path), str(path))
    _read(lambda: read_channel(path), str(path))
    if options is not None:
        options.write_conf(_FOLDER / "again")
        assert FbankOptions.read_conf(_FOLDER / "again") == options


def cmvn(data: bytes) -> None:
    """Read statistics: a table, or one matrix for all."""
    path = _file(data)
    read = _read(lambda: Cmvn.load(str(path), {}, norm_vars=False), str(path))
    for stats in read.stats.values() if read else ():
        assert stats.shape[0] in (1, 2)


def language_model_text(data: bytes) -> None:
    """Read sentences with and without ids, and a vocabulary."""
    path = _file(data)
    for utt_ids in (False, True):
        read = _read(lambda ids=utt_ids: read_named_sentences(path, utt_ids=ids), str(path))  # type: ignore[misc]
        assert (
            read is None or len(read[0]) == len(read[1]) <= 1 + data.count(b"\n") or data[:2] == _GZIP_MAGIC
        )
    _read(lambda: Vocabulary.read(path), str(path))


def _by_name(targets: Iterable[Target]) -> dict[str, Target]:
    return {target.__name__: target for target in targets}


TARGETS = _by_name(
    [
        matrices,
        int_vectors,
        lattices,
        script,
        matrix_range,
        data_dir,
        transition_model,
        tree,
        fst,
        symbol_table,
        lexicon,
        align_lexicon,
        arpa,
        grammar,
        conf,
        cmvn,
        language_model_text,
    ]
)
