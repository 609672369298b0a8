"""A trained selector in a running bot: from `train-trm` to the weights of every decision, killed and not killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.end_to_end.daemon import Home, home
from tests.end_to_end.ledgers import decisions_of, fills_of
from tests.end_to_end.test_neural import market
from trading_bot.bootstrap import run_backtest
from trading_bot.cli.main import cli
from trading_bot.domain.journal import Decision, Run, WeightChange
from trading_bot.errors import ConfigurationError

pytestmark = pytest.mark.slow

NOTED = "ensemble.trm"
BARS = 40
QUICK = ("--batches", "2", "--batch-size", "8", "--supervision-steps", "2", "--learning-rate", "0.003")
TRM: dict[str, Any] = {"ensemble": {"method": "trm", "log_change": 0.02}}


def train_here(bot: Home, monkeypatch: pytest.MonkeyPatch, *flags: str) -> str:
    """Train and promote in this process, which has loaded PyTorch already; the version's id."""
    monkeypatch.chdir(bot.folder)

    def verb(*words: str) -> str:
        done = CliRunner().invoke(cli, [*words, "-c", bot.config.name])
        assert done.exit_code == 0, done.output
        return done.stdout

    made: str = json.loads(verb("train-trm", "--data", "BTC/USDT", *QUICK, *flags, "--json"))["model"]
    assert made in verb("models", "promote", made)
    return made


def story(decisions: list[Decision]) -> list[tuple[Any, ...]]:
    """Everything a decision says but which life it was made in."""
    return [
        (d.symbol, d.time, d.regime, d.weights, d.signals, d.score, d.outcome, d.notes, d.model_versions)
        for d in decisions
    ]


def test_backtest_bot_and_a_bot_killed_half_way_decide_alike_and_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with home(tmp_path, market=market(tmp_path / "candles"), **TRM) as bot:
        refused = bot.run()
        assert refused.code == 4, refused.said
        assert "ensemble.method is trm, which wants a promoted selector, found none" in refused.stderr
        with pytest.raises(ConfigurationError, match="found none"):
            run_backtest(bot.settings())
        made = train_here(bot, monkeypatch)
        backtest = run_backtest(bot.settings())
        bot.start()
        bot.wait_for("^decision", 20)
        bot.lives[-1].kill()
        life = bot.run()
        assert life.code == 0, life.said
        with bot.store() as store:
            assert decisions_of(store) == decisions_of(backtest.store)
            assert fills_of(store) == fills_of(backtest.store)
        with backtest.store.reading() as tx:
            theirs, shifts = tx.find(Decision), tx.find(WeightChange)
        decisions = bot.rows(Decision)
        assert len({decision.run_id for decision in decisions}) == 2, "nothing was left to do for the second life"
        key = lambda each: (each.time, each.symbol)  # noqa: E731
        assert story(sorted(decisions, key=key)) == story(sorted(theirs, key=key))
        assert [each.because for each in bot.rows(WeightChange)] == [each.because for each in shifts]
        _assert_told(bot, decisions, made)

        # the same candles, cut short: what came later changed nothing
        bot.write(market=market(tmp_path / "candles", 15), **TRM)
        short = run_backtest(bot.settings())
        with short.store.reading() as tx:
            assert story(tx.find(Decision)) == story(theirs)[: 2 * 16]

        # one that grew old is silent
        bot.write(market=market(tmp_path / "candles"), **TRM, neural={"max_age_days": 1.0})
        with run_backtest(bot.settings()).store.reading() as tx:
            notes = [d.notes[NOTED] for d in tx.find(Decision, symbol="BTC/USDT")]
        assert [note.startswith("after ") for note in notes] == [False, *[True] * 24, *[False] * 16]
        assert notes[-1] == "silent: its model is 2 days old, neural.max_age_days is 1; train again"

        # without it, other weights
        bot.write(market=market(tmp_path / "candles"))
        table = run_backtest(bot.settings())
        with table.store.reading() as tx:
            plain = tx.find(Decision)
        assert [d.weights for d in plain if d.symbol == "BTC/USDT"] != [
            d.weights for d in theirs if d.symbol == "BTC/USDT"
        ]
        assert [d.weights for d in plain if d.symbol == "ETH/USDT"] == [
            d.weights for d in theirs if d.symbol == "ETH/USDT"
        ], "where it is silent, the table's"
        assert not any(d.notes or d.model_versions for d in plain)


def _assert_told(bot: Home, decisions: list[Decision], made: str) -> None:
    """Its part is in every decision, in the log and in `why`."""
    assert bot.rows(Run)[0].models == {"trm_BTC_USDT_1h": made}
    assert bot.lines(rf"^selector +trm_BTC_USDT_1h +weighs strategies on BTC/USDT 1h +model={made}")
    assert bot.lines(r"^selector +ETH/USDT 1h +none was promoted for ETH/USDT 1h, only for BTC/USDT 1h")
    btc = [decision for decision in decisions if decision.symbol == "BTC/USDT"]
    trained = "silent: its model was trained on candles up to"  # the first bar is the last of those
    for decision in decisions:
        note = decision.notes[NOTED]
        if decision.symbol == "BTC/USDT":
            assert decision.model_versions[NOTED] == made
            assert note.startswith(trained) == (decision is btc[0])
            assert note.endswith(f"model={made}") == (decision is not btc[0])
        else:
            assert NOTED not in decision.model_versions
            assert note == "silent: none was promoted for ETH/USDT 1h, only for BTC/USDT 1h"
    shifts = bot.lines(rf"^weights +BTC/USDT .* regime x .* record x .* trm, trm after [12] steps?: .*model={made}")
    assert shifts, "no shift was told"
    assert len(bot.lines(rf"^decision +ETH/USDT .*{NOTED} silent: none was promoted")) == 2, "once in each life"
    why = bot.verb("why", "BTC/USDT").stdout
    assert f"Models        {NOTED} {made}" in why
    assert f"Note          {NOTED} after " in why
    assert "(moving no weight: flat " in why
    assert "Weights       last moved " in why


def test_a_damaged_one_is_refused_and_the_bot_trades_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with home(tmp_path, market=market(tmp_path / "candles", 10), **TRM) as bot:
        made = train_here(bot, monkeypatch)
        checkpoint = bot.data / "models" / f"{made}.safetensors"
        content = bytearray(checkpoint.read_bytes())
        content[-7] ^= 1
        checkpoint.write_bytes(content)
        life = bot.run()
        assert life.code == 0, life.said
        assert [line for line in bot.log().splitlines() if " ERROR " in line and "is not the one of model" in line]
        decisions = bot.rows(Decision, symbol="BTC/USDT")
        assert len(decisions) == 11
        assert all(d.notes[NOTED].startswith("silent: refused: ") for d in decisions)
        bot.write(market=market(tmp_path / "candles", 10))
        with run_backtest(bot.settings()).store.reading() as tx:
            table = tx.find(Decision, symbol="BTC/USDT")
        assert [d.weights for d in decisions] == [d.weights for d in table]
