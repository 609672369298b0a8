"""The daemon as users run it: real processes, files and HTTP."""
