"""The features of a corpus, computed in parallel and written to an archive."""
