"""A local exchange that speaks Binance spot over HTTP."""
