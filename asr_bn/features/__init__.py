"""Kaldi's filterbank features in NumPy: options, windows, mel banks, deltas, CMVN."""
