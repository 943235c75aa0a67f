"""Bad archives of features: each ends in a sentence that names utterance and file, and in no output."""

import struct
from pathlib import Path

import numpy as np
import pytest

from asr_bn.kaldi_io.matrix_table import MatrixWriter
from tests.helpers.bad_inputs import Cases, case_of, check_case
from tests.helpers.kaldi_fixtures import SYNTHETIC

CASES: Cases = {}
case = case_of(CASES)
ARK = (SYNTHETIC / "oracles/feats/compressed.default.ark").read_bytes()


def feats(folder: Path, archive: bytes, offset: int = 4) -> list[str]:
    """``features --feats`` of a feats.scp whose utterance ``u`` is in these bytes."""
    (folder / "f.ark").write_bytes(archive)
    (folder / "feats.scp").write_text(f"u {folder}/f.ark:{offset}\n")
    (folder / "fbank.conf").write_text("--num-mel-bins=40\n")
    return ["features", str(folder), str(folder / "out"), "--feats", f"{folder}/feats.scp", "--nj", "1"]


@case(r"u: DIR/f\.ark:4: cut short: expected 2091 more bytes, found 1647")
def an_archive_cut_short(folder: Path) -> list[str]:
    return feats(folder, ARK[:2000])


@case(r"u: DIR/f\.ark:4: corrupt: a compressed matrix of -1 x 41")
def a_corrupt_header(folder: Path) -> list[str]:
    position = ARK.index(b"CM ") + 3 + 8
    return feats(folder, ARK[:position] + struct.pack("<i", -1) + ARK[position + 4 :])


@case(r"u: DIR/f\.ark:2: cut short: expected 164000000000 more bytes, found 13")
def a_header_that_asks_for_all_memory(folder: Path) -> list[str]:
    header = b"u \0BFM " + b"\x04" + struct.pack("<i", 1_000_000_000) + b"\x04" + struct.pack("<i", 41)
    return feats(folder, header + b"not so much..", offset=2)


@case(r"u: DIR/f\.ark:90000: the offset lies past the end of the file \(2963 bytes\)")
def an_offset_past_the_end(folder: Path) -> list[str]:
    return feats(folder, ARK, offset=90_000)


@case(r"u: DIR/f\.ark:7: not a Kaldi matrix.*")
def an_offset_into_the_middle(folder: Path) -> list[str]:
    return feats(folder, ARK, offset=7)


@case(r"u: DIR/feats\.scp: 3 columns, but fbank\.conf says 41")
def features_of_another_kind(folder: Path) -> list[str]:
    with MatrixWriter(folder / "made.ark") as writer:
        writer.write("u", np.zeros((4, 3), dtype=np.float32))
    return feats(folder, (folder / "made.ark").read_bytes(), offset=2)


@pytest.mark.parametrize("name", CASES)
def test_one_clear_sentence_and_no_output(name: str, tmp_path: Path) -> None:
    check_case(*CASES[name], tmp_path)
