"""Processes that decode a client's audio, out of reach of files and network."""
