"""Settings → Bot: the only package that names concrete classes. It imports inside functions, so that a verb that only
reads the database never loads ccxt or pandas."""

from trading_bot.bootstrap.bot import Bot, build_bot, build_learner, build_trader, new_bot_id
from trading_bot.bootstrap.markets import (
    candle_folder,
    exchange_state,
    load_market,
    make_exchange,
    serve_exchange,
    stored_market,
)
from trading_bot.bootstrap.offline import run_backtest, train_strategies
from trading_bot.bootstrap.venues import Access, build_candle_source

__all__ = [
    "Access",
    "Bot",
    "build_bot",
    "build_candle_source",
    "build_learner",
    "build_trader",
    "candle_folder",
    "exchange_state",
    "load_market",
    "make_exchange",
    "new_bot_id",
    "run_backtest",
    "serve_exchange",
    "stored_market",
    "train_strategies",
]
