"""What anybody may ask: time, symbols, candles, prices, the book, trades."""

from __future__ import annotations

from typing import Any

from trading_bot.domain.market import Candles, Instrument, timeframe_ms
from trading_bot.exchange.simulator import errors, shapes
from trading_bot.exchange.simulator.errors import ApiError
from trading_bot.exchange.simulator.exchange import LocalExchange
from trading_bot.exchange.simulator.params import Params
from trading_bot.exchange.simulator.shapes import Json

_DAY = 86_400_000
_PRINTS = 4  # public trades shown per bar: its open, its two extremes, its close


def ping(exchange: LocalExchange, params: Params) -> Json:
    return {}


def server_time(exchange: LocalExchange, params: Params) -> Json:
    """The wall clock, which signatures are checked by; market time is under /control/clock."""
    return {"serverTime": exchange.wall_clock()}


def exchange_info(exchange: LocalExchange, params: Params) -> Json:
    wanted = params.optional("symbol")
    instruments = [exchange.instrument(wanted)] if wanted else list(exchange.instruments.values())
    return {
        "timezone": "UTC",
        "serverTime": exchange.wall_clock(),
        "rateLimits": exchange.rate_limits(),
        "exchangeFilters": [],
        "symbols": [shapes.symbol_json(instrument) for instrument in instruments],
    }


def klines(exchange: LocalExchange, params: Params) -> list[list[Any]]:
    """Closed bars, and the bar in progress last: all its prices are its open, its volume is zero."""
    instrument = exchange.instrument(params.text("symbol"))
    timeframe = exchange.market.timeframe
    params.choice("interval", {timeframe}, ApiError(-1120, f"Invalid interval. This market has {timeframe} only."))
    since, until = params.integer("startTime"), params.integer("endTime")
    limit = params.limit(500, 1000)
    length = timeframe_ms(timeframe)
    forming = exchange.market.forming(instrument.symbol)
    if forming is not None and until is not None and forming[0] > until:
        forming = None
    if until is None:
        closed = exchange.market.candles(instrument.symbol, timeframe, since, limit)
    else:
        closed = exchange.market.candles(instrument.symbol, timeframe, since)
        closed = closed[: int(closed.time.searchsorted(until, "right"))]
        closed = closed[:limit] if since is not None else closed.tail(limit)
    rows = _rows(closed, instrument, length)
    if forming is not None and (since is None or forming[0] >= since):
        rows.append(_forming_row(forming, instrument, length))
    return rows[:limit] if since is not None else rows[-limit:]


def ticker_24h(exchange: LocalExchange, params: Params) -> Any:
    return _each(exchange, params, _day)


def ticker_price(exchange: LocalExchange, params: Params) -> Any:
    def price(exchange: LocalExchange, instrument: Instrument) -> Json:
        return {
            "symbol": shapes.symbol_id(instrument.symbol),
            "price": _text(exchange.price(instrument.symbol), instrument),
        }

    return _each(exchange, params, price)


def book_ticker(exchange: LocalExchange, params: Params) -> Any:
    def best(exchange: LocalExchange, instrument: Instrument) -> Json:
        bids, asks = exchange.book(instrument.symbol)
        return {
            "symbol": shapes.symbol_id(instrument.symbol),
            "bidPrice": bids[0][0],
            "bidQty": bids[0][1],
            "askPrice": asks[0][0],
            "askQty": asks[0][1],
        }

    return _each(exchange, params, best)


def depth(exchange: LocalExchange, params: Params) -> Json:
    instrument = exchange.instrument(params.text("symbol"))
    limit = params.limit(100, 5000)
    bids, asks = exchange.book(instrument.symbol)
    return {"lastUpdateId": exchange.market.now(), "bids": bids[:limit], "asks": asks[:limit]}


def trades(exchange: LocalExchange, params: Params) -> list[Json]:
    instrument = exchange.instrument(params.text("symbol"))
    return [
        {
            "id": number,
            "price": price,
            "qty": quantity,
            "quoteQty": quote,
            "time": when,
            "isBuyerMaker": maker,
            "isBestMatch": True,
        }
        for number, when, price, quantity, quote, maker in _prints(exchange, instrument, params.limit(500, 1000))
    ]


def aggregate_trades(exchange: LocalExchange, params: Params) -> list[Json]:
    instrument = exchange.instrument(params.text("symbol"))
    limit = params.limit(500, 1000)
    since, until = params.integer("startTime"), params.integer("endTime")
    rows = _prints(exchange, instrument, limit, since, until)
    return [
        {"a": number, "p": price, "q": quantity, "f": number, "l": number, "T": when, "m": maker, "M": True}
        for number, when, price, quantity, _, maker in rows
    ]


def _each(exchange: LocalExchange, params: Params, make: Any) -> Any:
    """One object for `symbol`, a list for `symbols` or for all."""
    if params.has("symbol"):
        return make(exchange, exchange.instrument(params.text("symbol")))
    wanted = params.optional("symbols")
    if wanted is None:
        priced = [known for known in exchange.instruments.values() if exchange.venue.price(known.symbol) is not None]
        return [make(exchange, instrument) for instrument in priced]
    names = [name.strip(' "') for name in wanted.strip("[]").split(",")]
    if not all(names):
        raise errors.invalid("symbols")
    return [make(exchange, exchange.instrument(name)) for name in names]


def _text(price: float, instrument: Instrument) -> str:
    return f"{price:.{shapes.places(instrument.tick)}f}"


def _rows(bars: Candles, instrument: Instrument, length: int) -> list[list[Any]]:
    price, lot = f"%.{shapes.places(instrument.tick)}f", f"%.{shapes.places(instrument.lot)}f"
    arrays = (bars.time, bars.open, bars.high, bars.low, bars.close, bars.volume)
    columns = zip(*(array.tolist() for array in arrays), strict=True)
    return [
        [
            opened,
            price % first,
            price % high,
            price % low,
            price % last,
            lot % volume,
            opened + length - 1,
            "%.8f" % (volume * (high + low) / 2),
            int(volume > 0) * _PRINTS,
            lot % (volume / 2),
            "%.8f" % (volume * (high + low) / 4),
            "0",
        ]
        for opened, first, high, low, last, volume in columns
    ]


def _forming_row(forming: tuple[int, float], instrument: Instrument, length: int) -> list[Any]:
    opened, price = forming[0], _text(forming[1], instrument)
    zero = f"{0:.{shapes.places(instrument.lot)}f}"
    return [opened, *[price] * 4, zero, opened + length - 1, "0.00000000", 0, zero, "0.00000000", "0"]


def _day(exchange: LocalExchange, instrument: Instrument) -> Json:
    """The last 24 hours: of closed bars, up to the price of now."""
    market = exchange.market
    now = market.now()
    bars = market.candles(instrument.symbol, market.timeframe, now - _DAY)
    price = exchange.price(instrument.symbol)
    if not len(bars):
        bars = market.candles(instrument.symbol, market.timeframe, None, 1)
    first = float(bars.open[0]) if len(bars) else price
    volume = float(bars.volume.sum()) if len(bars) else 0.0
    quote = float((bars.volume * (bars.high + bars.low)).sum()) / 2 if len(bars) else 0.0
    bids, asks = exchange.book(instrument.symbol)
    lot = shapes.places(instrument.lot)
    return {
        "symbol": shapes.symbol_id(instrument.symbol),
        "priceChange": _text(price - first, instrument),
        "priceChangePercent": f"{(price / first - 1) * 100:.3f}",
        "weightedAvgPrice": _text(quote / volume if volume else price, instrument),
        "prevClosePrice": _text(first, instrument),
        "lastPrice": _text(price, instrument),
        "lastQty": f"{0:.{lot}f}",
        "bidPrice": bids[0][0],
        "bidQty": bids[0][1],
        "askPrice": asks[0][0],
        "askQty": asks[0][1],
        "openPrice": _text(first, instrument),
        "highPrice": _text(max(float(bars.high.max()) if len(bars) else price, price), instrument),
        "lowPrice": _text(min(float(bars.low.min()) if len(bars) else price, price), instrument),
        "volume": f"{volume:.{lot}f}",
        "quoteVolume": f"{quote:.8f}",
        "openTime": now - _DAY,
        "closeTime": now,
        "firstId": 0,
        "lastId": len(bars) * _PRINTS,
        "count": len(bars) * _PRINTS,
    }


def _prints(
    exchange: LocalExchange, instrument: Instrument, limit: int, since: int | None = None, until: int | None = None
) -> list[tuple[int, int, str, str, str, bool]]:
    """Public trades made up from bars (their volume in four equal prints), oldest first, newest `limit` of them.

    Their numbers are those of time, so that one print has one number however it was asked for.
    """
    market = exchange.market
    length = timeframe_ms(market.timeframe)
    bars = market.candles(instrument.symbol, market.timeframe, None, limit // _PRINTS + 1)
    if since is not None:
        bars = market.candles(instrument.symbol, market.timeframe, since - length, limit // _PRINTS + 2)
    rows = []
    digits = shapes.places(instrument.lot)
    for index in range(len(bars)):
        up = bars.close[index] >= bars.open[index]
        low, high = float(bars.low[index]), float(bars.high[index])
        walk = (float(bars.open[index]), *((low, high) if up else (high, low)), float(bars.close[index]))
        volume = float(bars.volume[index]) / _PRINTS
        if round(volume, digits) <= 0:
            continue
        for step, price in enumerate(walk):
            when = int(bars.time[index]) + step * (length // _PRINTS)
            if (since is None or when >= since) and (until is None or when <= until):
                number = int(bars.time[index]) // length * _PRINTS + step
                quote = f"{price * volume:.8f}"
                rows.append((number, when, _text(price, instrument), f"{volume:.{digits}f}", quote, bool(step % 2)))
    return rows[:limit] if since is not None else rows[-limit:]
