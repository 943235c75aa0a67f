"""From posteriors to words: decoding graphs, beam search, word errors."""
