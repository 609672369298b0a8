"""Numbers computed from candles, each from the past alone."""
