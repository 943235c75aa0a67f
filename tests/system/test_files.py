"""Atomic writing: a name is whole or absent; the mode is what a plain ``open`` would have given."""

import json

import pytest

from asr_bn.system.files import atomic_path, read_json, write_json, write_text


def test_a_failed_write_leaves_the_old_contents_and_no_temporary_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("new, and cut sh")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_name_appears_only_when_the_writing_is_over(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"


def test_mode_is_that_of_an_ordinary_file(tmp_path):
    write_text(tmp_path / "ours", "")
    (tmp_path / "ordinary").write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_json_goes_round_and_refuses_what_is_not_json(tmp_path):
    value = {"fce": 0.5, "list": [1, None]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json", dict) == value == json.loads((tmp_path / "a.json").read_text())
    with pytest.raises(ValueError):
        write_json(tmp_path / "b.json", float("nan"))
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(ValueError, match=r"c\.json: not a JSON file"):
        read_json(tmp_path / "c.json", dict)
    with pytest.raises(ValueError, match=r"a\.json: holds a JSON dict, expected a list"):
        read_json(tmp_path / "a.json", list)
