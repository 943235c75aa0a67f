"""Waveforms from any audio file or stream, in Kaldi's int16 range."""
