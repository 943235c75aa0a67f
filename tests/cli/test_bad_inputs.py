"""Forty kinds of bad input, in the rooms beside this file; each has its own sentence."""

from tests.cli import test_bad_alignments, test_bad_archives, test_bad_audio, test_bad_data_dirs


def test_there_are_forty_kinds() -> None:
    rooms = (test_bad_alignments, test_bad_archives, test_bad_audio, test_bad_data_dirs)
    assert sum(len(room.CASES) for room in rooms) >= 40
