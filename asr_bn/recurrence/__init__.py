"""Recurrences over packed sequences, one file per backend."""
