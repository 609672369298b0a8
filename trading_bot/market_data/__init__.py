"""Where candles come from: exchanges, files, a synthetic market; cached and validated."""
