"""The bytes of ``final.mdl`` and of alignments, against files that the real Kaldi wrote.

The structure comes from Kaldi's text form; its floats have 6 to 7 digits there, so those come from the
binary file, at the place where they must end up again.
"""

import gzip
import io
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from asr_bn.system.arrays import Floats

pytest.importorskip("kaldi_hmm_gmm", reason="kaldi-hmm-gmm is not installed")

from asr_bn.gmm.write_mdl import (
    State,
    TransitionModelData,
    encode_am_diag_gmm,
    encode_int_vector_table,
    encode_transition_model,
)

FIXTURE = Path(__file__).parents[1] / "fixtures" / "kaldi_synthetic"


def _floats(data: bytes, count: int) -> Floats:
    return np.frombuffer(data[: 4 * count], dtype="<f4")


def test_transition_model_is_what_copy_transition_model_wrote() -> None:
    text = gzip.decompress((FIXTURE / "variants/transition_model.txt.gz").read_bytes()).decode()
    binary = (FIXTURE / "variants/transition_model.bin").read_bytes()
    entries, entry_of_phone, phones = [], {}, []
    for number, entry in enumerate(re.findall(r"<TopologyEntry>(.*?)</TopologyEntry>", text, re.DOTALL)):
        here = [
            int(phone) for phone in re.findall(r"<ForPhones>(.*?)</ForPhones>", entry, re.DOTALL)[0].split()
        ]
        phones += here
        entry_of_phone.update(dict.fromkeys(here, number))
        entries.append([_parse_state(state) for state in re.findall(r"<State> \d+ (.*?)</State>", entry)])
    rows = re.findall(r"<Triples> \d+(.*?)</Triples>", text, re.DOTALL)[0].split()
    triples = [(int(rows[i]), int(rows[i + 1]), int(rows[i + 2])) for i in range(0, len(rows), 3)]
    tail = binary.split(b"<LogProbs> FV ")[1]
    log_probs = _floats(tail[5:], struct.unpack("<bi", tail[:5])[1])
    model = TransitionModelData(sorted(phones), entry_of_phone, entries, triples, log_probs)
    assert b"\0B" + encode_transition_model(model) == binary


def _parse_state(text: str) -> State:
    pdf_class = re.match(r"<PdfClass> (\d+)", text)
    transitions = [(int(target), float(p)) for target, p in re.findall(r"<Transition> (\d+) (\S+)", text)]
    return State(int(pdf_class[1]) if pdf_class else -1, transitions)


@dataclass
class _Gmm:
    """Stands in for a ``kaldi_hmm_gmm.DiagGmm``, read here from Kaldi's bytes."""

    gconsts: Floats
    weights: Floats
    means_invvars: Floats
    inv_vars: Floats


@dataclass
class _AmGmm:
    dim: int
    num_pdfs: int
    gmms: list[_Gmm] = field(default_factory=list)

    def get_pdf(self, pdf: int) -> _Gmm:
        return self.gmms[pdf]


def _expect(stream: io.BytesIO, data: bytes) -> None:
    assert stream.read(len(data)) == data


def _integer(stream: io.BytesIO) -> int:
    size, value = struct.unpack("<bi", stream.read(5))
    assert size == 4
    return int(value)


def _vector(stream: io.BytesIO, name: bytes) -> Floats:
    _expect(stream, name + b" FV ")
    count = _integer(stream)
    return _floats(stream.read(4 * count), count)


def _matrix(stream: io.BytesIO, name: bytes) -> Floats:
    _expect(stream, name + b" FM ")
    rows, columns = _integer(stream), _integer(stream)
    return _floats(stream.read(4 * rows * columns), rows * columns).reshape(rows, columns)


def test_gmms_are_what_gmm_est_wrote() -> None:
    whole = (FIXTURE / "ali/final.mdl").read_bytes()
    stream = io.BytesIO(whole[whole.index(b"<DIMENSION>") :])
    _expect(stream, b"<DIMENSION> ")
    dim = _integer(stream)
    _expect(stream, b"<NUMPDFS> ")
    model = _AmGmm(dim, _integer(stream))
    assert (model.dim, model.num_pdfs) == (20, 72)  # am-info.txt
    for _ in range(model.num_pdfs):
        _expect(stream, b"<DiagGMM> ")
        gconsts, weights = _vector(stream, b"<GCONSTS>"), _vector(stream, b"<WEIGHTS>")
        means_invvars, inv_vars = _matrix(stream, b"<MEANS_INVVARS>"), _matrix(stream, b"<INV_VARS>")
        model.gmms.append(_Gmm(gconsts, weights, means_invvars, inv_vars))
        _expect(stream, b"</DiagGMM> ")
    assert stream.read() == b""
    assert encode_am_diag_gmm(model) == stream.getvalue()


def test_alignments_are_read_by_kaldi_native_io(tmp_path: Path) -> None:
    kaldi_native_io = pytest.importorskip("kaldi_native_io", reason="the oracle is not installed")
    vectors = {"b-1": np.array([5, 4, 300], np.int32), "a-1": np.array([7], np.int32)}
    (tmp_path / "ali").write_bytes(encode_int_vector_table(vectors))
    with kaldi_native_io.SequentialInt32VectorReader(f"ark:{tmp_path / 'ali'}") as reader:
        assert [(key, list(value)) for key, value in reader] == [("a-1", [7]), ("b-1", [5, 4, 300])]
