"""The running service: models, admission, lifecycle, metrics, traces."""
