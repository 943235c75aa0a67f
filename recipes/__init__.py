"""Complete experiments, a folder each."""
