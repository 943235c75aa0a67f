"""The filter bank against Kaldi's ``compute-fbank-feats``; its options against kaldi-native-fbank."""

from pathlib import Path

import numpy as np
import pytest

from asr_bn.features.filterbank import fbank
from asr_bn.features.options import FbankOptions
from asr_bn.kaldi_io.matrix_table import read_matrices
from asr_bn.system.arrays import Floats
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd, waveforms
from tests.helpers.torchaudio_kaldi import torchaudio_kaldi


def _compare(folder: Path, wav_scp: str, oracle: str, **options: object) -> None:
    """Median at most 1e-5; at most 5e-3 where the value is within 20 nats of its frame's largest.

    Further down, two correct implementations in float32 differ by the noise of their Fourier transforms.
    """
    theirs = dict(read_matrices(folder / oracle))
    differences, worst, compared = [], 0.0, 0
    for utt_id, (samples, rate) in waveforms(folder, wav_scp).items():
        if utt_id not in theirs:
            continue
        ours = fbank(samples, FbankOptions(sample_frequency=rate, **options))
        expected = theirs[utt_id]
        compared += 1
        assert len(ours) == len(expected), utt_id
        if not len(ours):
            continue
        difference = np.abs(ours - expected)
        near = expected >= expected.max(axis=1, keepdims=True) - 20
        worst = max(worst, float(difference[near].max()))
        differences.append(difference.ravel())
    assert compared == len(theirs)
    assert np.median(np.concatenate(differences)) <= 1e-5
    assert worst <= 5e-3


def test_synthetic_16khz() -> None:
    _compare(SYNTHETIC, "oracles/feats/wav.scp", "oracles/feats/fbank41.txt.gz")


def test_without_snip_edges() -> None:
    _compare(SYNTHETIC, "oracles/feats/wav.scp", "oracles/feats/fbank41_nosnip.txt.gz", snip_edges=False)


@needs_fsdd
@pytest.mark.parametrize("part", ["train", "dev"])
def test_real_speech_8khz(part: str) -> None:
    _compare(FSDD, f"data/{part}_first20/wav.scp", f"oracles/fbank8k/{part}.fbank.txt.gz")


@needs_fsdd
@pytest.mark.parametrize(("oracle", "bins"), [("fbank41", 40), ("fbank24", 23)])
def test_16khz(oracle: str, bins: int) -> None:
    _compare(FSDD, "oracles/fbank16k/wav.scp", f"oracles/fbank16k/{oracle}.txt.gz", num_mel_bins=bins)


def test_the_utterances_mean_is_subtracted_as_torchaudio_does() -> None:
    import torch

    kaldi = torchaudio_kaldi()
    signals = waveforms(SYNTHETIC, "oracles/feats/wav.scp")
    for samples, rate in (signals[utt_id] for utt_id in ("f1-015", "f2-008", "m4-009")):
        ours = fbank(samples, FbankOptions(sample_frequency=rate, subtract_mean=True))
        theirs = kaldi.fbank(
            torch.from_numpy(samples)[None],
            sample_frequency=rate,
            num_mel_bins=40,
            use_energy=True,
            energy_floor=0.0,
            subtract_mean=True,
        ).numpy()
        np.testing.assert_allclose(ours, theirs, atol=2e-3)
        assert np.abs(ours.mean(axis=0, dtype=np.float64)).max() < 1e-5


@pytest.mark.parametrize("subtract_mean", [False, True])
@pytest.mark.parametrize("num_samples", [0, 1, 399])
def test_shorter_than_a_frame_gives_no_frames(num_samples: int, subtract_mean: bool) -> None:
    options = FbankOptions(subtract_mean=subtract_mean)
    assert fbank(np.ones(num_samples, dtype=np.float32), options).shape == (0, 41)


def _native(samples: Floats, options: FbankOptions) -> Floats:
    knf = pytest.importorskip("kaldi_native_fbank")
    theirs = knf.FbankOptions()
    frame, mel = theirs.frame_opts, theirs.mel_opts
    frame.samp_freq, frame.dither = options.sample_frequency, 0.0
    frame.frame_length_ms, frame.frame_shift_ms = options.frame_length_ms, options.frame_shift_ms
    frame.preemph_coeff, frame.remove_dc_offset = options.preemphasis_coefficient, options.remove_dc_offset
    frame.window_type, frame.snip_edges = options.window_type, options.snip_edges
    frame.round_to_power_of_two = options.round_to_power_of_two
    mel.num_bins, mel.low_freq, mel.high_freq = options.num_mel_bins, options.low_freq, options.high_freq
    theirs.use_energy, theirs.raw_energy = options.use_energy, options.raw_energy
    theirs.htk_compat, theirs.energy_floor = options.htk_compat, options.energy_floor
    theirs.use_log_fbank, theirs.use_power = options.use_log_fbank, options.use_power
    computer = knf.OnlineFbank(theirs)
    computer.accept_waveform(options.sample_frequency, samples.tolist())
    computer.input_finished()
    return np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])


@pytest.mark.parametrize(
    "changes",
    [
        {"window_type": "hamming"},
        {"window_type": "hanning"},
        {"window_type": "rectangular"},
        {"window_type": "blackman"},
        {"use_energy": False},
        {"raw_energy": False},
        {"htk_compat": True},
        {"use_log_fbank": False, "use_energy": False},
        {"use_power": False},
        {"remove_dc_offset": False},
        {"preemphasis_coefficient": 0.0},
        {"low_freq": 60.0, "high_freq": -400.0, "num_mel_bins": 30},
        {"frame_length_ms": 20.0, "frame_shift_ms": 7.5},
        {"energy_floor": 1e12},
        {"num_mel_bins": 80},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_options_against_kaldi_native_fbank(changes: dict[str, object]) -> None:
    samples = waveforms(SYNTHETIC, "oracles/feats/wav.scp")["f1-015"][0]
    options = FbankOptions(**changes)
    ours, theirs = fbank(samples, options), _native(samples, options)
    assert ours.shape == theirs.shape
    # Another Fourier transform: close where there is energy, not in the noise under it.
    scale = 1.0 if options.use_log_fbank else float(theirs.max())
    assert np.median(np.abs(ours - theirs)) <= 2e-5 * scale
    assert np.abs(ours - theirs).max() <= 2e-2 * scale


def test_dither_is_seeded_and_has_its_variance() -> None:
    options, silence = FbankOptions(dither=1.0, remove_dc_offset=False), np.zeros(160_000, dtype=np.float32)
    one, same, other = (fbank(silence, options, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    # The energy of a frame is a sum of 400 squares of standard deviation 1.
    assert np.exp(one[:, 0].astype(np.float64)).mean() == pytest.approx(400, rel=0.02)


def test_threads_do_not_share_their_arrays() -> None:
    from concurrent.futures import ThreadPoolExecutor

    signals = [np.random.default_rng(i).normal(0, 500, 16000).astype(np.float32) for i in range(8)]
    expected = [fbank(signal, FbankOptions()) for signal in signals]
    with ThreadPoolExecutor(4) as pool:
        for ours, alone in zip(pool.map(lambda s: fbank(s, FbankOptions()), signals), expected, strict=True):
            np.testing.assert_array_equal(ours, alone)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sample_that_is_not_finite_is_refused(value: float) -> None:
    samples = np.zeros(500, dtype=np.float32)
    samples[7] = value
    with pytest.raises(ValueError, match="sample 7 of 500"):
        fbank(samples, FbankOptions())
