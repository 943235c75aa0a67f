"""A stage is done only while its outputs exist and were made from what they would be made from now."""

import os

from asr_bn.system.stamps import fingerprint, is_done, mark_done


def test_done_needs_stamp_outputs_and_the_same_inputs(tmp_path):
    source, output, stamp = tmp_path / "in", tmp_path / "out", tmp_path / ".done"
    source.write_text("1")
    made_from = fingerprint({"option": 1}, [source])
    assert not is_done(stamp, made_from, [output])
    output.write_text("made")
    assert not is_done(stamp, made_from, [output])
    mark_done(stamp, made_from)
    assert is_done(stamp, made_from, [output])
    assert not is_done(stamp, fingerprint({"option": 2}, [source]), [output])
    source.write_text("2")
    assert not is_done(stamp, fingerprint({"option": 1}, [source]), [output])
    output.unlink()
    assert not is_done(stamp, made_from, [output])


def test_what_keeps_nothing_is_never_done(tmp_path):
    output, stamp = tmp_path / "fifo", tmp_path / ".done"
    os.mkfifo(output)
    mark_done(stamp, "A")
    assert not is_done(stamp, "A", [output])  # its reader waits for the bytes
