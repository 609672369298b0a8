"""Fetching a stretch of history into candle files; stopped at any moment, it goes on from there the next time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from trading_bot.domain.market import timeframe_ms
from trading_bot.errors import ConfigurationError
from trading_bot.market_data.cached_candles import CachedCandles
from trading_bot.market_data.candle_checks import utc
from trading_bot.market_data.file_candles import StoredCandles, list_data
from trading_bot.ports import CandleSource


def download(
    source: CandleSource,
    symbols: Sequence[str],
    timeframe: str,
    since: int,
    folder: Path,
    *,
    now: Callable[[], int],
    console: Console | None = None,
) -> list[StoredCandles]:
    """Candles of `symbols` from `since` (ms) until now, as Feather files in `folder`; what `list-data` says of them.

    A file that is there already is continued from its end (to begin earlier, delete it first). However it ends, by
    Ctrl-C too, what was fetched is kept. A progress bar is shown where `console` is a terminal.

    Raises
    ------
    ConfigurationError
        No symbols, an unknown timeframe, `since` in the future, a folder that cannot be written.
    ExchangeError, CandleDataError
        The source could not be asked, or answered garbage.
    StorageError
        A file cannot be written.
    """
    if not symbols:
        raise ConfigurationError("no symbols to download; wanted some, such as BTC/USDT")
    timeframe_ms(timeframe)
    until = now()
    if since >= until:
        raise ConfigurationError(f"download from {utc(since)} is in the future; it is {utc(until)} (UTC)")
    cached = CachedCandles(source, folder, now=now, flush_every=50_000)
    console = console if console is not None else Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            for symbol in symbols:
                stored = cached.newest(symbol, timeframe)
                begin = since if stored is None else stored
                task = progress.add_task(f"{symbol} {timeframe}", total=max(1, until - begin))

                def advance(newest: int, task: TaskID = task, begin: int = begin) -> None:
                    progress.update(task, completed=newest - begin)

                cached.pull(symbol, timeframe, since=since, on_page=advance)
                progress.update(task, completed=max(1, until - begin))
    finally:
        cached.flush()
    wanted = set(symbols)
    return [row for row in list_data(folder) if row.symbol in wanted and row.timeframe == timeframe]
