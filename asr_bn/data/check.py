"""What ``utils/validate_data_dir.sh`` checks, and whether features, lengths and alignments fit together."""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from asr_bn.audio.reader import SkippedSegment, WaveformReader
from asr_bn.audio.source import AudioSource
from asr_bn.data.alignments import count_pdfs, num_pdfs, read_pdf_ids
from asr_bn.features.options import options_at
from asr_bn.kaldi_io.data_dir import DataDir, Utterance, read_spk2utt
from asr_bn.kaldi_io.matrix_table import MatrixScp
from asr_bn.kaldi_io.plain_text import parse_float, parse_int, split_words
from asr_bn.kaldi_io.rxfilename import is_pipe, open_file, resolve, split_offset
from asr_bn.kaldi_io.script_file import read_raw_ids, read_table
from asr_bn.kaldi_io.utterance_id import prefix_errors

_SORTED_FILES = ("wav.scp", "segments", "utt2spk", "spk2utt", "text", "feats.scp")
_OF_UTTERANCES = ("utt2dur", "utt2num_frames", "utt2lang", "utt2uniq", "vad.scp")
_OF_SPEAKERS = ("spk2gender",)
_CMVN, _RECORDINGS = "cmvn.scp", "reco2file_and_channel"


def _is_above_zero(value: str, parse: Callable[[str], float] = parse_float) -> bool:
    try:
        return parse(value) > 0
    except ValueError:
        return False


# What awk looks at in validate_data_dir.sh.
_VALUES: dict[str, tuple[str, Callable[[str], bool]]] = {
    "utt2spk": ("a speaker", lambda value: len(split_words(value)) == 1),
    "spk2gender": ("m or f", lambda value: value in ("m", "f")),
    "utt2dur": ("seconds above 0", _is_above_zero),
    "utt2num_frames": ("a number of frames above 0", lambda value: _is_above_zero(value, parse_int)),
    _RECORDINGS: ("a file and a channel", lambda value: len(split_words(value)) == 2),
}
_SHOWN = 5
# Perl's \s with Unicode strings, without tab, line feed and blank.
_DISALLOWED = re.compile("[\v\f\r\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")


@dataclass
class DataReport:
    """``facts`` that were counted, ``remarks`` that are allowed, and ``problems`` that are not."""

    facts: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def check_data(
    data_dir: Path,
    ali_dir: Path | None = None,
    audio: AudioSource = AudioSource(),
    fbank_conf: Path | None = None,
) -> DataReport:
    """Check a data folder and, if given, the alignments of its utterances.

    The frames of an utterance are those of its ``feats.scp`` if there is one, or else follow from its audio,
    every file of which is then decoded.  The rate is the conf file's, or else that of the first recording.

    Raises:
        OSError, ValueError: the folder cannot be read at all.
    """
    report = DataReport()
    names = (*_SORTED_FILES, *_OF_UTTERANCES, *_OF_SPEAKERS, _CMVN, _RECORDINGS)
    tables = [data_dir / name for name in names if (data_dir / name).exists()]
    for path in tables:
        _check_order(path, report)
    if report.problems:
        return report
    for path in tables:
        _check_whitespace(path, report)
    frames = _check_folder(data_dir, audio, fbank_conf, report)
    if ali_dir is not None:
        _check_alignments(ali_dir, frames, report)
    return report


def _check_order(path: Path, report: DataReport) -> None:
    """Check that ids are unique and sorted as bytes (``LC_ALL=C``), as Kaldi's programs need them."""
    previous = b""
    for number, key in read_raw_ids(path):
        utt_id = key.decode("utf-8", "replace")
        if key == previous:
            report.problems.append(f"{path}, line {number}: {utt_id} comes twice")
            return
        if key < previous:
            report.problems.append(
                f"{path}, line {number}: {utt_id} is out of order (sort with LC_ALL=C, or run"
                " utils/fix_data_dir.sh)"
            )
            return
        previous = key


def _check_whitespace(path: Path, report: DataReport) -> None:
    """Report whitespace that ``utils/validate_text.pl`` refuses in ``text``; elsewhere it is a remark."""
    with open_file(path) as stream:
        lines = stream.read().decode("utf-8", "replace").split("\n")
    for number, line in enumerate(lines, start=1):
        if found := _DISALLOWED.search(line):
            place = line[max(0, found.start() - 20) : found.end() + 20]
            name = f"U+{ord(found.group()):04X}"
            lines_of_report = report.problems if path.name == "text" else report.remarks
            lines_of_report.append(
                f"{path}, line {number}: disallowed Unicode whitespace {name} in {place!r}"
            )
            return


def _check_folder(
    data_dir: Path, audio: AudioSource, fbank_conf: Path | None, report: DataReport
) -> dict[str, int]:
    """Return frames by utterance; mismatches go to ``report``."""
    feats_path = data_dir / "feats.scp"
    if not (data_dir / "wav.scp").exists() and feats_path.exists():
        utt_ids = list(read_table(feats_path))
        report.remarks.append("no wav.scp: only the features are checked")
        if not utt_ids:
            report.problems.append(f"{feats_path}: no utterances")
        _check_tables(data_dir, utt_ids, report)
        return _frames_of_feats(feats_path, utt_ids, audio, report)
    data = DataDir.read(data_dir, audio.root, report.problems.append)
    _check_tables(data_dir, list(data.utterances), report)
    _check_files(data, report)
    if feats_path.exists():
        _compare("feats.scp", read_table(feats_path), data.utterances, report)
        return _frames_of_feats(feats_path, list(data.utterances), audio, report)
    return _frames_of_audio(data.utterances.values(), audio, fbank_conf, report)


def _check_tables(data_dir: Path, utt_ids: list[str], report: DataReport) -> None:
    report.facts.append(f"utterances: {len(utt_ids)}")
    utt2spk = read_table(data_dir / "utt2spk") if (data_dir / "utt2spk").exists() else None
    if utt2spk is None:
        report.remarks.append("no utt2spk")
    else:
        report.facts.append(f"speakers: {len(set(utt2spk.values()))}")
        _compare("utt2spk", utt2spk, utt_ids, report)
        _check_spk2utt(data_dir / "spk2utt", utt2spk, report)
    _check_companions(data_dir, utt_ids, utt2spk or {}, report)
    if (data_dir / "text").exists():
        text = read_table(data_dir / "text", value_needed=False)
        report.facts.append(f"words: {sum(len(split_words(words)) for words in text.values())}")
        _compare("text", text, utt_ids, report)
        _list(
            "without words in text", [utt_id for utt_id, words in text.items() if not words], report.remarks
        )


def _check_companions(
    data_dir: Path, utt_ids: list[str], utt2spk: dict[str, str], report: DataReport
) -> None:
    """Compare tables that are for Kaldi's own scripts, where there are any."""
    speakers = set(utt2spk.values())
    wanted: dict[str, Collection[str]] = dict.fromkeys(_OF_UTTERANCES, utt_ids)
    wanted |= dict.fromkeys(_OF_SPEAKERS, speakers) if utt2spk else {}
    for name, keys in wanted.items():
        if (data_dir / name).exists():
            _compare(name, read_table(data_dir / name), keys, report)
    if (data_dir / _CMVN).exists():
        found = read_table(data_dir / _CMVN)  # by speaker, or by utterance
        by_utterance = bool(found.keys() & set(utt_ids)) or not utt2spk
        _compare(_CMVN, found, utt_ids if by_utterance else speakers, report)
    for name, (expected, is_right) in _VALUES.items():
        path = data_dir / name
        for key, value in (read_table(path) if path.exists() else {}).items():
            if not is_right(value):
                report.problems.append(f"{path}: {key} {value!r}, expected {expected}")
                break


def _check_spk2utt(path: Path, utt2spk: dict[str, str], report: DataReport) -> None:
    strange = [utt_id for utt_id, speaker in utt2spk.items() if not utt_id.startswith(speaker)]
    _list("whose id does not begin with the speaker's", strange, report.remarks)
    if not path.exists():
        report.remarks.append("no spk2utt")
    elif read_spk2utt(path) != utt2spk:
        report.problems.append(f"{path}: does not say the same as utt2spk")


def _check_files(data: DataDir, report: DataReport) -> None:
    missing, num_pipes = [], 0
    for utterance in data.utterances.values():
        with prefix_errors(utterance.utt_id):
            if is_pipe(utterance.rxfilename):
                num_pipes += 1
            elif not resolve(split_offset(utterance.rxfilename)[0], data.root).exists():
                missing.append(utterance.utt_id)
    if num_pipes:
        report.facts.append(f"utterances read through pipes: {num_pipes}")
    _list("whose audio file is missing", missing, report.problems)


def _frames_of_feats(
    path: Path, utt_ids: Iterable[str], audio: AudioSource, report: DataReport
) -> dict[str, int]:
    frames, scp = {}, MatrixScp(path, audio.root, audio.pipes)
    for utt_id in utt_ids:
        if utt_id in scp:
            try:
                frames[utt_id] = scp.num_frames(utt_id)
            except (OSError, ValueError) as error:
                report.problems.append(" ".join(str(error).split()))
                break
    _frame_facts(frames, report)
    return frames


def _frames_of_audio(
    utterances: Collection[Utterance], audio: AudioSource, fbank_conf: Path | None, report: DataReport
) -> dict[str, int]:
    from tqdm import tqdm

    frames: dict[str, int] = {}
    left_out: list[str] = []
    seconds, broken = 0.0, 0
    fbank, reader = None, WaveformReader(audio)
    for utterance in tqdm(utterances, desc="audio", unit="utt", delay=2.0):
        try:
            waveform = reader.read(utterance)
        except SkippedSegment as error:
            left_out.append(str(error))
            continue
        except ValueError as error:
            broken += 1
            if broken <= _SHOWN:
                report.problems.append(" ".join(str(error).split()))
            continue
        if fbank is None:
            fbank = options_at(fbank_conf, float(waveform.sample_frequency))
            if audio.resample:
                reader = WaveformReader(audio, int(fbank.sample_frequency))
                waveform = reader.read(utterance)
        if waveform.sample_frequency != fbank.sample_frequency:
            report.problems.append(
                f"{utterance.utt_id}: {waveform.sample_frequency} Hz, expected {fbank.sample_frequency:g} Hz"
            )
            break
        seconds += len(waveform.samples) / waveform.sample_frequency
        frames[utterance.utt_id] = fbank.num_frames(len(waveform.samples))
    if fbank is not None:
        report.facts.append(f"sample frequency: {fbank.sample_frequency:g} Hz")
    report.facts.append(f"hours: {seconds / 3600:.2f}")
    _frame_facts(frames, report)
    _list("that extract-segments leaves out", left_out, report.remarks)
    return frames


def _frame_facts(frames: dict[str, int], report: DataReport) -> None:
    report.facts.append(f"frames: {sum(frames.values())}")
    if frames and not any(frames.values()):
        report.problems.append("no utterance is as long as a frame")
    _list("shorter than a frame", [utt_id for utt_id, count in frames.items() if count == 0], report.remarks)


def _check_alignments(ali_dir: Path, frames: dict[str, int], report: DataReport) -> None:
    pdf_ids, classes = read_pdf_ids(ali_dir), num_pdfs(ali_dir)
    common = [utt_id for utt_id in frames if utt_id in pdf_ids]
    report.facts.append(f"aligned utterances: {len(common)}")
    _list("without an alignment", [utt_id for utt_id in frames if utt_id not in pdf_ids], report.remarks)
    _list(
        "aligned, but not in the data", [utt_id for utt_id in pdf_ids if utt_id not in frames], report.remarks
    )
    if not common:
        report.problems.append(f"{ali_dir}: aligns none of these utterances")
        return
    counts = count_pdfs((pdf_ids[utt_id] for utt_id in common), classes)
    unseen = np.flatnonzero(counts == 0)
    report.facts.append(f"pdfs: {classes} ({classes - len(unseen)} seen, {len(unseen)} unseen)")
    if len(unseen):
        report.remarks.append(f"pdfs in no alignment: {' '.join(str(pdf) for pdf in unseen[:20])}")
    _check_lengths({utt_id: (frames[utt_id], len(pdf_ids[utt_id])) for utt_id in common}, report)


def _check_lengths(lengths: dict[str, tuple[int, int]], report: DataReport) -> None:
    unlike = {utt_id: pair for utt_id, pair in lengths.items() if pair[0] != pair[1]}
    if not unlike:
        return
    for factor in (2, 3, 4):
        if all(abs(frames - factor * aligned) <= factor for frames, aligned in lengths.values()):
            report.problems.append(
                f"one aligned pdf-id for every {factor} frames: alignments of a model with frame subsampling"
            )
            return
    shown = [f"{utt_id} ({frames} frames, {aligned} pdf-ids)" for utt_id, (frames, aligned) in unlike.items()]
    _list("with unlike numbers of frames and pdf-ids", shown, report.problems)


def _compare(name: str, table: Iterable[str], utt_ids: Iterable[str], report: DataReport) -> None:
    given, wanted = set(table), set(utt_ids)
    what = "speakers" if name in _OF_SPEAKERS else "entries" if name == _CMVN else "utterances"
    _list(f"missing in {name}", sorted(wanted - given), report.problems, what)
    _list(f"in {name} only", sorted(given - wanted), report.problems, what)


def _list(what: str, utt_ids: list[str], lines: list[str], things: str = "utterances") -> None:
    if utt_ids:
        rest = f", and {len(utt_ids) - _SHOWN} more" if len(utt_ids) > _SHOWN else ""
        lines.append(f"{len(utt_ids)} {things} {what}: {', '.join(utt_ids[:_SHOWN])}{rest}")
