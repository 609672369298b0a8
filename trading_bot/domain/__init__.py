"""The words of trading, as immutable values. No I/O, no clock, no randomness."""
