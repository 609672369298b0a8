"""A trained network in the ensemble of a running bot: from `train` to its part in every decision, as a user goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.end_to_end.daemon import Home, home
from tests.end_to_end.ledgers import decisions_of, fills_of
from tests.training.forecasting import swinging
from trading_bot.bootstrap import run_backtest
from trading_bot.cli.main import cli
from trading_bot.domain.account import Trade
from trading_bot.domain.journal import Decision, Run
from trading_bot.market_data.candle_writing import write_csv

pytestmark = pytest.mark.slow

BARS = 40
QUICK = ("--epochs", "2", "--batches-per-epoch", "20", "--walk-forward", "2", "--horizon", "3")


def market(folder: Path, bars: int = BARS) -> dict[str, Any]:
    """Two pairs whose prices return to a mean: something a network can learn in a moment."""
    folder.mkdir(exist_ok=True)
    paths = []
    for seed, pair in enumerate(("BTC_USDT", "ETH_USDT"), start=1):
        path = folder / f"{pair}-1h.csv"
        if not path.exists():
            made = swinging(1_700, seed)
            write_csv(path, replace(made, symbol=pair.replace("_", "/")))
        paths.append(str(path))
    return {"candles": paths, "history": 1_500, "max_bars": bars}


def train(bot: Home) -> str:
    """Train and promote, as processes of their own; the version's id."""

    def verb(*words: str) -> str:
        done = bot.verb(*words)
        assert done.code == 0, done.said
        return done.stdout

    return trained(verb, "BTC/USDT")


def train_here(bot: Home, monkeypatch: pytest.MonkeyPatch, pair: str = "BTC/USDT", *flags: str) -> str:
    """The same in this process, which has loaded PyTorch already."""
    monkeypatch.chdir(bot.folder)

    def verb(*words: str) -> str:
        done = CliRunner().invoke(cli, [*words, "-c", bot.config.name])
        assert done.exit_code == 0, done.output
        return done.stdout

    return trained(verb, pair, *flags)


def trained(verb: Callable[..., str], pair: str, *flags: str) -> str:
    made: str = json.loads(verb("train", "--data", pair, *QUICK, *flags, "--json"))["model"]
    assert made in verb("models", "promote", made)
    return made


def test_its_part_is_in_every_decision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with home(tmp_path, market=market(tmp_path / "candles"), service={"heartbeat_seconds": 0.1}) as bot:
        made = train(bot)
        first = bot.run()
        assert first.code == 0, first.said
        assert bot.lines(rf"^strategy +neural_forecast +forecasts BTC/USDT 1h 3 bars ahead +model={made}")
        assert bot.rows(Run)[0].models == {"neural_forecast": made}
        assert bot.lines(rf"^heartbeat .*models={made}")
        decisions = bot.rows(Decision)
        assert len(decisions) == 2 * (BARS + 1)
        btc = [decision for decision in decisions if decision.symbol == "BTC/USDT"]
        for decision in decisions:
            assert decision.model_versions == {"neural_forecast": made}
            assert "neural_forecast" in decision.weights
            if decision.symbol == "BTC/USDT":
                trained = "silent: its model was trained on candles up to"  # the first bar is the last of those
                assert decision.notes.get("neural_forecast", "").startswith(trained) == (decision is btc[0])
            else:
                assert decision.notes == {"neural_forecast": "silent: its model was trained on BTC/USDT"}
                assert decision.signals["neural_forecast"] == (0, 0.0)
        spoken = [d.signals["neural_forecast"] for d in btc]
        assert {side for side, _ in spoken} & {1, -1}, "it never had an opinion: train it on more"
        assert all(0 <= confidence < 1 for _, confidence in spoken)
        assert bot.lines(r"^decision +BTC/USDT .*neural_forecast [+-]1x0\.\d\d")
        assert bot.lines(r"^decision +ETH/USDT .*neural_forecast silent: its model was trained on BTC/USDT")
        why = bot.verb("why", "BTC/USDT")
        assert f"neural_forecast {made}" in why.stdout
        assert bot.rows(Trade, book="account"), "no trade at all"
        bot.ledgers().assert_agree()

        # a second one, of another pair, beside it; and the first grown too old
        other = train_here(bot, monkeypatch, "ETH/USDT", "--strategy", "neural_eth")
        bot.write(market=market(tmp_path / "candles", BARS + 20), neural={"max_age_days": 1.0})
        second = bot.run()
        assert second.code == 0, second.said
        later = bot.rows(Decision)[len(decisions) :]
        assert len(later) == 2 * 20
        assert {tuple(d.model_versions.items()) for d in later} == {(("neural_eth", other), ("neural_forecast", made))}
        notes = {d.notes.get("neural_forecast", "") for d in later if d.symbol == "BTC/USDT"}
        assert all(note.startswith("silent: its model is") and "days old" in note for note in notes)
        assert {d.notes.get("neural_eth", "") for d in later if d.symbol == "ETH/USDT"} == {""}
        bot.ledgers().assert_agree()


def test_a_damaged_checkpoint_is_refused_and_the_bot_trades_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with home(tmp_path, market=market(tmp_path / "candles", 20)) as bot:
        made = train_here(bot, monkeypatch)
        checkpoint = bot.data / "models" / f"{made}.safetensors"
        content = bytearray(checkpoint.read_bytes())
        content[-7] ^= 1
        checkpoint.write_bytes(content)
        life = bot.run()
        assert life.code == 0, life.said
        assert [line for line in bot.log().splitlines() if " ERROR " in line and "is not the one of model" in line]
        decisions = bot.rows(Decision)
        assert len(decisions) == 2 * 21
        assert all("silent: refused: " in d.notes["neural_forecast"] for d in decisions)


def test_backtest_and_bot_decide_alike_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with home(tmp_path, market=market(tmp_path / "candles")) as bot:
        train_here(bot, monkeypatch)
        backtest = run_backtest(bot.settings())
        life = bot.run()
        assert life.code == 0, life.said
        with bot.store() as store:
            assert decisions_of(store) == decisions_of(backtest.store)
            assert fills_of(store) == fills_of(backtest.store)
        confidences = {d.signals["neural_forecast"][1] for d in bot.rows(Decision, symbol="BTC/USDT")}
        assert len(confidences) > 10, "too few opinions for a comparison"
