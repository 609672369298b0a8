"""One fit: losses, loaders, the trainer and its checkpoints."""
