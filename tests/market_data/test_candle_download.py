"""Downloads go on where they stopped, and keep what they have."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.market_data.venue import HOUR, START, Venue, bars, same, unreachable, without
from trading_bot.domain.market import Candles
from trading_bot.errors import ConfigurationError, ExchangeUnreachable
from trading_bot.market_data.candle_files import read
from trading_bot.market_data.download import download


def fetched(folder: Path) -> Candles:
    return read(folder / "BTC_USDT-1h.feather")[0]


def test_everything_since_a_date_lands_in_a_file(tmp_path: Path) -> None:
    venue = Venue(without(bars(3000), 700), at=2500)
    (row,) = download(venue, ["BTC/USDT"], "1h", START, tmp_path, now=venue.now)
    assert same(fetched(tmp_path), without(bars(3000), 700)[:2500])
    assert (row.rows, row.gaps, row.missing_bars) == (2500, 1, 1)
    assert (row.first, row.last) == (START, START + 2500 * HOUR)


@pytest.mark.parametrize("ending", [unreachable(), KeyboardInterrupt()])
def test_a_download_that_stops_keeps_what_it_has_and_goes_on_later(tmp_path: Path, ending: BaseException) -> None:
    venue = Venue(bars(5000))
    original = venue.candles

    def candles(symbol: str, timeframe: str, since: int | None = None, limit: int | None = None) -> Candles:
        if len(venue.asked) == 3:
            raise ending
        return original(symbol, timeframe, since, limit)

    venue.candles = candles  # type: ignore[method-assign]
    with pytest.raises((ExchangeUnreachable, KeyboardInterrupt)):
        download(venue, ["BTC/USDT"], "1h", START, tmp_path, now=venue.now)
    assert 2000 < len(fetched(tmp_path)) < 4000
    reached = int(fetched(tmp_path).time[-1])
    venue.candles = original  # type: ignore[method-assign]
    venue.asked.clear()
    download(venue, ["BTC/USDT"], "1h", START, tmp_path, now=venue.now)
    assert venue.asked[0][0] == reached
    assert same(fetched(tmp_path), bars(5000))


def test_a_terminal_sees_a_progress_bar_and_a_file_does_not(tmp_path: Path) -> None:
    for terminal, folder in ((True, "a"), (False, "b")):
        venue = Venue(bars(1500))
        shown = io.StringIO()
        console = Console(file=shown, force_terminal=terminal, width=80)
        download(venue, ["BTC/USDT"], "1h", START, tmp_path / folder, now=venue.now, console=console)
        assert ("BTC/USDT 1h" in shown.getvalue()) is terminal
        assert ("100%" in shown.getvalue()) is terminal


def test_senseless_wishes_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    venue = Venue(bars(50))
    for symbols, timeframe, since, words in (
        ([], "1h", START, "no symbols"),
        (["BTC/USDT"], "1hour", START, "timeframe '1hour'"),
        (["BTC/USDT"], "1h", START + 99 * HOUR, "is in the future"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            download(venue, symbols, timeframe, since, tmp_path, now=venue.now)
    assert venue.asked == []
    assert list(tmp_path.iterdir()) == []
