"""The daemon: jobs, one queue, one consumer."""
