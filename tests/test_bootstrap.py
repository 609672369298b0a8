"""Which strategies a bot is made of: files, promoted networks, and what `strategies` chooses among both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.service.stand import log_lines
from tests.trading.test_neural_forecast import forecaster
from tests.trading.test_strategy_selector import selector
from trading_bot.bootstrap.selectors import promoted_selectors, selectors_of
from trading_bot.bootstrap.strategies import chosen_strategies
from trading_bot.domain.models import ModelStatus, ModelVersion
from trading_bot.errors import ConfigurationError, StorageError, StrategyError, TradingBotError
from trading_bot.learn.model_registry import models_folder, promote, register, selector_name
from trading_bot.settings import Settings, load_settings
from trading_bot.storage.store import open_store
from trading_bot.trading.neural_forecast import NeuralForecast

FILE = """
from trading_bot.trading.strategy import Signals, by_regime
name, warmup, affinity = "{name}", 3, by_regime(trending=0.3, ranging=0.3, volatile=0.3, choppy=0.3)
def signals(candles): return Signals(candles.close * 0, candles.close * 0)
"""


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A bot with a network takes one; other tests may want theirs back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with two strategy files, and two networks promoted."""
    (tmp_path / "strategies").mkdir()
    for name in ("ema", "rsi"):
        (tmp_path / f"strategies/{name}.py").write_text(FILE.format(name=name))
    with closing(open_store(settings(tmp_path).database_url)) as store:
        for name in ("neural_btc", "neural_forecast", "neural_later"):
            path = tmp_path / f"{name}.safetensors"
            version = ModelVersion(
                f"{name}-1", name, ModelStatus.CANDIDATE, datetime(2024, 1, 1, tzinfo=UTC), None,
                forecaster().save(path), "", {}, {}, {},
            )  # fmt: skip
            register(store, models_folder(tmp_path / "data"), version, path)
            if name != "neural_later":
                promote(store, models_folder(tmp_path / "data"), version.id)
    return tmp_path


def settings(place: Path, **values: Any) -> Settings:
    given: Mapping[str, Any] = {"data_dir": str(place / "data"), "strategy_path": str(place / "strategies"), **values}
    return load_settings((), dict(given), {})


def names(place: Path, **values: Any) -> list[str]:
    return [strategy.name for strategy in chosen_strategies(settings(place, **values))]


def test_files_then_promoted_networks(place: Path) -> None:
    made = chosen_strategies(settings(place))
    assert [strategy.name for strategy in made] == ["ema", "rsi", "neural_btc", "neural_forecast"]
    networks = [strategy for strategy in made if isinstance(strategy, NeuralForecast)]
    assert [network.model_version for network in networks] == ["neural_btc-1", "neural_forecast-1"]


def test_some_are_chosen(place: Path) -> None:
    assert names(place, strategies=["rsi", "neural_btc"]) == ["rsi", "neural_btc"]
    assert names(place, strategies=["ema"]) == ["ema"]
    assert names(place, strategies=["neural_forecast"], strategy_path=str(place / "none")) == ["neural_forecast"]
    with pytest.raises(ConfigurationError, match="'neural_later', a trained network that has not been promoted"):
        names(place, strategies=["ema", "neural_later"])
    with pytest.raises(StrategyError, match="no strategy named 'neural_never'"):
        names(place, strategies=["neural_never"])


def test_networks_can_be_left_out(place: Path) -> None:
    assert names(place, neural={"enabled": False}) == ["ema", "rsi"]


def test_a_name_is_one_strategy_s(place: Path) -> None:
    (place / "strategies/mine.py").write_text(FILE.format(name="neural_btc"))
    with pytest.raises(ConfigurationError, match="'neural_btc' is a file and a promoted network too; rename the file"):
        names(place)
    assert names(place, neural={"enabled": False}) == ["ema", "neural_btc", "rsi"]
    (place / "strategies/mine.py").rename(place / "strategies/neural_btc.py")
    with pytest.raises(ConfigurationError, match="a file and a promoted network too"):
        names(place, strategies=["neural_btc"])


def test_a_checkpoint_that_is_gone_is_no_reason_not_to_trade(place: Path) -> None:
    (place / "data/models/neural_btc-1.safetensors").unlink()
    with log_lines() as lines:
        made = chosen_strategies(settings(place))
    assert [strategy.name for strategy in made] == ["ema", "rsi", "neural_btc", "neural_forecast"]
    assert made[2].forecaster is None
    assert [line for line in lines if "ERROR" in line and "neural_btc-1.safetensors" in line and "is not there" in line]


def test_a_database_that_cannot_be_read_is_told(place: Path) -> None:
    database = place / "data/trading_bot.sqlite"
    database.write_text("something else entirely, and long enough to be looked at\n" * 20)
    with pytest.raises(StorageError, match="is not a SQLite database"):
        names(place)
    assert names(place, neural={"enabled": False}) == ["ema", "rsi"]
    database.unlink()
    assert names(place) == ["ema", "rsi"], "a bot that never ran has no networks, and that is all right"


# Selectors

TRM = {"ensemble": {"method": "trm"}}


def selecting(place: Path, symbol: str = "BTC/USDT", *, in_use: bool = True, name: str | None = None) -> str:
    """Register (and promote) a selector of this market; its id."""
    path = place / "selector.safetensors"
    name = name or selector_name(symbol, "1h")
    config = {"kind": "selector", "symbol": symbol, "timeframe": "1h"}
    with closing(open_store(settings(place).database_url)) as store:
        version = ModelVersion(
            f"{name}-s1", name, ModelStatus.CANDIDATE, datetime(2024, 1, 1, tzinfo=UTC), None,
            selector(symbol=symbol).save(path), "", {}, config, {},
        )  # fmt: skip
        register(store, models_folder(place / "data"), version, path)
        if in_use:
            promote(store, models_folder(place / "data"), version.id)
    return version.id


def test_without_the_method_no_selector_is_looked_for(place: Path) -> None:
    selecting(place)
    for method in ("table", "hedge", "equal"):
        assert promoted_selectors(settings(place, ensemble={"method": method})) == []
    assert selectors_of(settings(place), [], ["BTC/USDT"], "1h") == {}


def test_the_method_wants_a_promoted_selector(place: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"found none; `trading-bot train-trm` trains one.*or set the method"):
        promoted_selectors(settings(place, **TRM))
    made = selecting(place, in_use=False)
    with pytest.raises(ConfigurationError, match=rf"found 1 not promoted; `trading-bot models promote {made}` puts"):
        promoted_selectors(settings(place, **TRM))
    selecting(place)
    assert [each.id for each in promoted_selectors(settings(place, **TRM))] == [made]
    with pytest.raises(ConfigurationError, match=r"neural\.enabled is false; set that to true, or the method to table"):
        promoted_selectors(settings(place, **TRM, neural={"enabled": False}))
    (place / "data/trading_bot.sqlite").unlink()
    with pytest.raises(ConfigurationError, match="found none"):
        promoted_selectors(settings(place, **TRM))


def test_each_market_has_its_own_and_one_without_says_so(place: Path) -> None:
    made, other = selecting(place), selecting(place, "ETH/USDT")
    promoted = promoted_selectors(settings(place, **TRM))
    assert (made, other) == ("trm_BTC_USDT_1h-s1", "trm_ETH_USDT_1h-s1")
    with log_lines() as lines:
        found = selectors_of(settings(place, **TRM), promoted, ["BTC/USDT", "ETH/USDT", "ADA/USDT"], "1h")
    assert {symbol: each.model_version for symbol, each in found.items()} == {
        "BTC/USDT": made, "ETH/USDT": other, "ADA/USDT": None,
    }  # fmt: skip
    words = "none was promoted for ADA/USDT 1h, only for BTC/USDT 1h, ETH/USDT 1h"
    assert found["ADA/USDT"].refusal == words
    assert [line for line in lines if "WARNING" in line and words in line]
    assert torch.get_num_threads() == 1
    elsewhere = selectors_of(settings(place, **TRM), promoted, ["BTC/USDT"], "5m")
    assert elsewhere["BTC/USDT"].selector is None


def test_a_selector_never_becomes_a_strategy_nor_a_forecaster_a_selector(place: Path) -> None:
    selecting(place)
    assert names(place, **TRM) == ["ema", "rsi", "neural_btc", "neural_forecast"]
    with pytest.raises(ConfigurationError, match="strategies has 'trm_BTC_USDT_1h', a selector: it weighs strategies"):
        names(place, strategies=["ema", "trm_BTC_USDT_1h"])
    assert [each.strategy for each in promoted_selectors(settings(place, **TRM))] == ["trm_BTC_USDT_1h"]
    with pytest.raises(TradingBotError, match=r"is a selector of strategies, but the champion of neural_btc, neural_b"):
        selecting(place, name="neural_btc")


def test_a_selector_whose_file_is_gone_is_no_reason_not_to_trade(place: Path) -> None:
    made = selecting(place)
    (place / f"data/models/{made}.safetensors").unlink()
    promoted = promoted_selectors(settings(place, **TRM))
    with log_lines() as lines:
        found = selectors_of(settings(place, **TRM), promoted, ["BTC/USDT"], "1h")
    assert found["BTC/USDT"].refusal.startswith("refused: ")
    assert [line for line in lines if "ERROR" in line and "is not there" in line]
