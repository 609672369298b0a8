"""Venues: any exchange through ccxt, the paper venue, and a local exchange that speaks Binance spot."""
