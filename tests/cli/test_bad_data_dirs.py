"""Bad data folders: each ends in a sentence that names utterance and file, and in no output."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from asr_bn.cli.main import app
from tests.helpers.bad_inputs import WAV, Cases, audio, case_of, check_case, scp

CASES: Cases = {}
case = case_of(CASES)


@case(r"u: yes \|: unknown audio format \(it begins with b'y\\ny\\ny\\ny\\n'\).*")
def a_pipe_without_an_end(folder: Path) -> list[str]:
    return scp(folder, "u yes |\n")


@case(r"u: /proc/self/mem: Input/output error")
def a_file_that_cannot_be_read(folder: Path) -> list[str]:
    return scp(folder, "u /proc/self/mem\n")


@case(r"u: DIR/gone\.wav: No such file or directory")
def a_missing_file(folder: Path) -> list[str]:
    return scp(folder, f"u {folder}/gone.wav\n")


@case(r"u: DIR: Is a directory")
def a_folder_instead_of_a_file(folder: Path) -> list[str]:
    return scp(folder, f"u {folder}\n")


@case(r"u: cat DIR/gone\.wav \|: the command failed with exit code 1: .*gone\.wav.*")
def a_pipe_that_fails(folder: Path) -> list[str]:
    return scp(folder, f"u cat {folder}/gone.wav |\n")


@case(r"u: sleep 60 \|: still running after 0\.2 seconds; stopped")
def a_pipe_that_hangs(folder: Path) -> list[str]:
    return scp(folder, "u sleep 60 |\n", "--pipe-timeout", "0.2")


@case(r"u: true \|: the command wrote nothing")
def a_pipe_that_is_silent(folder: Path) -> list[str]:
    return scp(folder, "u true |\n")


@case(r"u: true \|: pipes are refused here \(--no-pipes\)")
def a_pipe_where_pipes_are_refused(folder: Path) -> list[str]:
    return scp(folder, "u true |\n", "--no-pipes")


@case(r"u: twice in DIR/data/wav\.scp \(again in line 2\)")
def an_id_twice(folder: Path) -> list[str]:
    return scp(folder, "u a.wav\nu b.wav\n")


@case(r"u: nothing after the id in DIR/data/wav\.scp, line 1")
def an_id_without_a_file(folder: Path) -> list[str]:
    return scp(folder, "u\n")


@case(r"DIR/data/wav\.scp, line 1: not UTF-8")
def a_name_that_is_not_utf8(folder: Path) -> list[str]:
    return scp(folder, b"u \xe9t\xe9.wav\n")


@case(r"DIR/data: no utterances \(an empty wav\.scp or segments, or all lines left out\)")
def an_empty_data_folder(folder: Path) -> list[str]:
    return scp(folder, "")


@case(r"DIR/nowhere/wav\.scp: No such file or directory")
def no_data_folder(folder: Path) -> list[str]:
    return ["features", f"{folder}/nowhere", f"{folder}/out"]


@case(r"DIR/data: no utterances \(an empty wav\.scp or segments, or all lines left out\)")
def a_segment_of_no_recording(folder: Path) -> list[str]:
    return scp(folder, "r a.wav\n", segments="u q 0 1\n")


@case(r"DIR/data: none of 1 utterances has a frame \(1 segments left out\)")
def a_segment_past_the_end(folder: Path) -> list[str]:
    (folder / "a.wav").write_bytes(WAV)
    return scp(folder, f"r {folder}/a.wav\n", segments="u r 5 6\n")


@case(r"u: not in DIR/data/utt2spk")
def an_utterance_without_a_speaker(folder: Path) -> list[str]:
    return scp(folder, "u a.wav\n", utt2spk="v s\n")


@case(r"DIR/f\.conf, line 1: unknown option --num-ceps")
def an_option_of_mfcc(folder: Path) -> list[str]:
    (folder / "f.conf").write_text("--num-ceps=13\n")
    return [*audio(folder, WAV), "--fbank-conf", f"{folder}/f.conf"]


@pytest.mark.parametrize("name", CASES)
def test_one_clear_sentence_and_no_output(name: str, tmp_path: Path) -> None:
    check_case(*CASES[name], tmp_path)


def test_unsorted_ids_are_reported(tmp_path: Path) -> None:
    scp(tmp_path, "b b.wav\na a.wav\n")
    result = CliRunner().invoke(app, ["check", str(tmp_path / "data")])
    assert result.exit_code == 1
    assert f"problem: {tmp_path}/data/wav.scp, line 2: a is out of order" in result.stdout
