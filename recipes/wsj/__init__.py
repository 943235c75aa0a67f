"""The paper's speech experiment (Table 1, Figure 1), on a Kaldi system or on the embedded corpus."""
