"""The embedded corpus: synthesized English sentences, and GMM alignments of them trained on the spot."""
