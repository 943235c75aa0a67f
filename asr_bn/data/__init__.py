"""Training data: alignments, priors, batches, reading ahead, and checks of a data folder."""
