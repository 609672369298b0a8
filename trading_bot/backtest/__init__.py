"""The same Trader over stored candles."""
