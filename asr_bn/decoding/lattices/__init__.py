"""Lattices: several answers for each utterance, their costs, confidences and times."""
