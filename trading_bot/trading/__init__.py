"""The decision loop: strategies, order protocol, risk, portfolio, shadow books, the trader."""
