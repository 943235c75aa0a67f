"""From waveforms to Kaldi's filterbank features."""
