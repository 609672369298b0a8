"""Claims about quality, each with the command that measures it and writes `docs/evidence`."""
