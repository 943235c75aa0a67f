"""GMM systems from a flat start: alignments where there is no Kaldi system."""
