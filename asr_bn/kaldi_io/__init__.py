"""Kaldi's file formats, read and written without Kaldi."""
