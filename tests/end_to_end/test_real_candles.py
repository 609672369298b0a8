"""Real candles through the daemon: trades in SQL, equal books, and decisions explained by the verbs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.daemon import home
from tests.end_to_end.markets import real_candles
from trading_bot.domain.account import Trade
from trading_bot.domain.journal import Decision

pytestmark = pytest.mark.slow

FILES = {
    "BTC/USDT": ["BTC_USDT-1h.csv.gz"],
    "BTC/EUR": ["BTC_EUR-1h.csv.gz", "ETH_EUR-1h.csv.gz", "ADA_EUR-1h.csv.gz"],
}
BARS = {"BTC/USDT": 250, "BTC/EUR": 120}


@pytest.mark.parametrize("symbol", list(FILES))
def test_real_candles_are_traded_and_explained(symbol: str, tmp_path: Path) -> None:
    paths = real_candles(*FILES[symbol])
    market = {"candles": paths[0] if len(paths) == 1 else paths, "history": 1000, "max_bars": BARS[symbol]}
    with home(tmp_path, bot_id=None, market=market) as bot:
        finished = bot.run()
        assert finished.code == 0, finished.said
        books = bot.ledgers()
        books.assert_agree()
        quote = symbol.partition("/")[2]
        assert books.bot.balances[quote] != 10_000
        assert len(bot.rows(Decision)) == len(paths) * (BARS[symbol] + 1)
        trades = bot.rows(Trade, book="account")
        assert [trade for trade in trades if not trade.is_open], "no trade was closed; give it more bars"
        first = next(trade for trade in trades if trade.id == "T1")

        why = bot.verb("why", symbol)
        assert why.code == 0, why.said
        for word in (symbol, "egime", "core", "atr_breakout"):
            assert word in why.stdout, f"{word!r} is missing in {why.stdout}"

        traced = bot.verb("trace", "T1")
        assert traced.code == 0, traced.said
        (fill, *_), order = (row for row in books.bot.fills.values() if row[0] == first.entry_order_id), first
        for part in (first.symbol, first.entry_order_id, "Decision to enter", "Position", "Way out", "Result"):
            assert part in traced.stdout, f"{part!r} is missing in {traced.stdout}"
        assert f"{fill[3]:f}".rstrip("0") in traced.stdout.replace(",", ""), f"no price {fill[3]} in {traced.stdout}"
        assert str(order.exit_reason) in traced.stdout
