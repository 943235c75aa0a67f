"""The embedded corpus: synthesized English sentences, and GMM alignments of them trained on the spot."""

BOUNDARY_ACCURACY = "boundary_accuracy.json"  # beside the alignments
