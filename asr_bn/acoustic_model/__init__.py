"""The acoustic model: configuration, network, training, evaluation."""
