"""From posteriors to words: Kaldi's decoding graphs, beam search, word error rate, building graphs."""
