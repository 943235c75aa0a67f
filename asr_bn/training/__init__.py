"""What any training run is made of: checkpoints, run folder, resume, ranks, device, log."""
