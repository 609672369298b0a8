"""The verbs of trading-bot."""
