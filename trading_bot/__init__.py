"""An adaptive-ML trading bot: candles in, one explained decision a bar, orders out, results learned from."""

__version__ = "0.1.0"
