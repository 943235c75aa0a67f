"""Which utterances share a call, and when."""
