"""Recurrences over packed sequences, a file for each backend."""
