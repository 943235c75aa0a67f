"""The paper's speech experiment: see README.md."""
