"""The learning loop: when it is time, what is learned, and how that is put in force, whole or not at all."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import MemoryStore
from tests.service.stand import log_lines
from tests.trading.lessons import (
    BTC,
    CONFIG,
    ETH,
    FALLEN,
    MARKET,
    NEWEST,
    Rule,
    champion,
    found,
    learner_of,
    lesson,
    model,
    taught,
    verdict,
)
from tests.trading.stage import HOUR, START
from trading_bot.domain.journal import JobRun, Training
from trading_bot.domain.market import Candles
from trading_bot.domain.models import ModelStatus, ModelVersion
from trading_bot.errors import TrainingStopped
from trading_bot.features.compute import SETTLED
from trading_bot.learn.model_registry import checkpoint_path, pin, promote, versions
from trading_bot.ports import Store
from trading_bot.storage.store import open_store
from trading_bot.trading.learning import Lesson
from trading_bot.trading.strategy import Signals


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


def outcomes(store: Store) -> list[tuple[int, str, str, str | None]]:
    """Bar, trigger, outcome and model of every training."""
    return [((t.time - START) // HOUR, t.trigger, t.outcome, t.model) for t in found(store, Training)]


def timeless(made: Lesson) -> Lesson:
    """Without what depends on how busy the machine is."""
    verdicts = {name: dataclasses.replace(each, seconds=0.0) for name, each in made.verdicts.items()}
    return dataclasses.replace(made, verdicts=verdicts, seconds=0.0)


# when -----------------------------------------------------------------------------------------------------------------


def test_trainings_and_looks_take_turns(store: MemoryStore, folder: Path) -> None:
    """A training looks at the models too: where both are due there is one."""
    learner, due = learner_of(store, folder), []
    for bar in range(101):
        time = START + bar * HOUR
        if (trigger := learner.due(time)) is not None:
            due.append((bar, trigger))
            assert learner.due(time) == trigger, "asking changes nothing"
            learner.take(lesson(learner, bar=bar, trigger={"check": "drift"}.get(trigger, trigger)))
        assert learner.due(time) is None
    first = [(0, "schedule"), (4, "check")]  # the stage begins in the middle of a slot
    assert due == first + [(bar, "check" if (bar - 16) % 48 else "schedule") for bar in range(16, 101, 12)]
    assert learner.next_training(START) == START + 16 * HOUR
    assert learner.next_training(START + 16 * HOUR) == START + 64 * HOUR


def test_slots_missed_meanwhile_are_made_good_by_one_training(store: MemoryStore, folder: Path) -> None:
    learner = learner_of(store, folder)
    learner.take(lesson(learner, bar=0))
    later = START + 500 * HOUR
    assert learner.due(later) == "schedule"
    learner.take(lesson(learner, bar=500))
    assert learner.due(later) is None
    assert learner.due(later - 100 * HOUR) is None, "market time that goes back begins nothing"


def test_slots_are_remembered_by_the_database(tmp_path: Path, folder: Path) -> None:
    with closing(open_store(f"sqlite:///{tmp_path / 'bot.sqlite'}")) as sql:
        learner = learner_of(sql, folder)
        learner.take(lesson(learner, bar=20))
        learner.take(lesson(learner, bar=30, trigger="drift"))
    with closing(open_store(f"sqlite:///{tmp_path / 'bot.sqlite'}")) as sql:
        again = learner_of(sql, folder)
        assert again.done == learner.done
        assert [again.due(START + bar * HOUR) for bar in (30, 39, 40, 64)] == [None, None, "check", "schedule"]


def test_a_demand_leaves_the_slots_alone(store: MemoryStore, folder: Path) -> None:
    learner = learner_of(store, folder)
    learner.take(lesson(learner, bar=20, trigger="demand"))
    assert learner.due(START + 20 * HOUR) == "schedule"
    assert not found(store, JobRun)


def test_what_was_put_off_is_tried_at_the_next_slot_or_in_the_next_life(store: MemoryStore, folder: Path) -> None:
    learner = learner_of(store, folder)
    learner.put_off(START + 20 * HOUR)
    assert [learner.due(START + bar * HOUR) for bar in (20, 27, 28, 64)] == [None, None, "check", "schedule"]
    assert learner_of(store, folder).due(START + 20 * HOUR) == "schedule"


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"config": dataclasses.replace(CONFIG, every_bars=168)}, 112),
        ({"config": dataclasses.replace(CONFIG, every_bars=24)}, 40),
        ({"timeframe": "4h"}, 64),
        ({"timeframe": "15m"}, 28),
    ],
    ids=["rarer", "more often", "longer bars", "shorter bars"],
)
def test_another_rhythm_begins_at_its_own_next_slot(
    store: MemoryStore, folder: Path, changes: dict[str, Any], first: int
) -> None:
    learner = learner_of(store, folder)
    learner.take(lesson(learner, bar=20))
    changed = learner_of(store, folder, **changes)
    due = [bar for bar in range(20, 400) if changed.due(START + bar * HOUR) == "schedule"]
    assert due[0] == first


def test_since_leaves_room_for_every_warm_up(store: MemoryStore, folder: Path) -> None:
    assert learner_of(store, folder).since(NEWEST) == NEWEST - (900 + SETTLED) * HOUR
    long = learner_of(store, folder, [Rule("a"), Rule("b", warmup=SETTLED + 50)])
    assert long.since(NEWEST) == NEWEST - (950 + SETTLED) * HOUR


# what is learned ------------------------------------------------------------------------------------------------------


def test_learning_is_pure(store: MemoryStore, folder: Path) -> None:
    learner = learner_of(store, folder)
    made = learner.learn(MARKET, NEWEST, "schedule")
    assert made.verdicts["rule"].model is not None, made.verdicts["rule"].reason
    assert made.verdicts["rule"].model.symbols == (BTC, ETH)
    assert (made.time, made.trigger, made.champions, made.fallen) == (NEWEST, "schedule", {"rule": None}, {})
    assert not any(found(store, kind) for kind in (Training, ModelVersion, JobRun))
    assert not folder.exists()
    assert learner.due(NEWEST) == "schedule"
    assert learner.strategies[0].model is None
    assert timeless(learner.learn(MARKET, NEWEST, "schedule")) == timeless(made)
    (told,) = learner.take(made)
    assert told.outcome == "promoted", told.reason
    assert learner.strategies[0].model == made.verdicts["rule"].model


def test_later_candles_make_no_difference(store: MemoryStore, folder: Path) -> None:
    """And earlier ones than it looks at make none either."""
    learner = learner_of(store, folder)
    known = {s: rows[int(rows.time.searchsorted(learner.since(NEWEST))) : 1_101] for s, rows in MARKET.items()}
    assert known[BTC].time[-1] == NEWEST
    made = learner.learn(MARKET, NEWEST, "schedule")
    assert timeless(learner.learn(known, NEWEST, "schedule")) == timeless(made)
    assert made.verdicts["rule"].model is not None
    assert made.verdicts["rule"].model.known_until <= NEWEST
    changed = {symbol: rows[:-1] for symbol, rows in known.items()}
    assert timeless(learner.learn(changed, NEWEST, "schedule")) != timeless(made)


@pytest.mark.parametrize("trouble", [ZeroDivisionError("of its own"), SystemExit(3)])
def test_a_strategy_that_raises_fails_alone(store: MemoryStore, folder: Path, trouble: BaseException) -> None:
    learner = learner_of(store, folder, [Rule("broken", trouble=trouble), Rule("whole")])
    made = learner.learn(MARKET, NEWEST, "schedule")
    assert made.verdicts["broken"].outcome == "failed"
    assert made.verdicts["broken"].reason == f"no signals: {type(trouble).__name__}: {trouble}"
    assert made.verdicts["whole"].model is not None


def test_a_symbol_with_too_few_candles_is_none_of_the_model_s(store: MemoryStore, folder: Path) -> None:
    learner = learner_of(store, folder)
    alone = timeless(learner.learn({BTC: MARKET[BTC]}, NEWEST, "schedule"))
    none = {**MARKET, ETH: Candles.empty(ETH, "1h")}
    assert timeless(learner.learn(none, NEWEST, "schedule")) == alone
    few = learner.learn({**MARKET, ETH: MARKET[ETH][1_101 - SETTLED : 1_101]}, NEWEST, "schedule").verdicts["rule"]
    assert few.model == alone.verdicts["rule"].model
    assert few.model is not None
    assert few.model.symbols == (BTC,)


@pytest.mark.parametrize("market", [{}, {BTC: MARKET[BTC][:SETTLED]}, {BTC: Candles.empty(BTC, "1h")}])
def test_without_candles_there_is_too_little(store: MemoryStore, folder: Path, market: dict[str, Candles]) -> None:
    learner = learner_of(store, folder)
    told = learner.take(learner.learn(market, NEWEST, "schedule"))
    assert [(each.outcome, each.reason) for each in told] == [("too_little", "no signal with a known outcome yet")]
    assert learner.due(NEWEST) is None


def test_without_strategies_nothing_is_learned(store: MemoryStore, folder: Path) -> None:
    learner = learner_of(store, folder, [])
    assert learner.take(learner.learn(MARKET, NEWEST, "schedule")) == []
    assert learner.due(NEWEST) is None


def test_a_look_trains_only_those_whose_champion_has_fallen(store: MemoryStore, folder: Path) -> None:
    learner = learner_of(store, folder, [Rule("boaster"), Rule("calm"), Rule("new")])
    boast = model("boaster", gain=0.9, gain_deviation=0.01, bars=10_000, symbols=(BTC, ETH))
    for bar, made in ((100, model("boaster", bias=0.5, symbols=(BTC, ETH))), (110, boast), (120, model("calm"))):
        each = dataclasses.replace(verdict(strategy=made.strategy), model=made)
        learner.take(lesson(learner, each, bar=bar, trigger="demand"))
    look = learner.learn(MARKET, NEWEST, "check")
    assert (look.trigger, set(look.fallen), set(look.verdicts)) == ("drift", {"boaster"}, {"boaster"})
    assert look.fallen["boaster"].fallen
    assert look.verdicts["boaster"].scores["against"] == "champion", "the one before, to which it falls back"
    whole = learner.learn(MARKET, NEWEST, "schedule")
    assert (set(whole.fallen), set(whole.verdicts)) == ({"boaster"}, {"boaster", "calm", "new"})
    assert timeless(whole).verdicts["boaster"] == timeless(look).verdicts["boaster"]
    learner.take(look)
    assert [(job.job, job.slot) for job in found(store, JobRun)] == [("check", learner.done["check"])]


def test_a_champion_of_another_timeframe_is_not_looked_at(store: MemoryStore, folder: Path) -> None:
    learner = learner_of(store, folder)
    boast = model(gain=0.9, gain_deviation=0.01, bars=10_000, timeframe="4h")
    learner.take(lesson(learner, dataclasses.replace(verdict(), model=boast), bar=100))
    assert not learner.learn(MARKET, NEWEST, "check").fallen
    made = learner.learn(MARKET, NEWEST, "schedule")
    assert made.verdicts["rule"].scores["against"] == "rule"


def test_what_is_used_is_what_was_in_use_when_it_began(store: MemoryStore, folder: Path) -> None:
    """The user promotes while the long history is looked at."""

    class Meddling(Rule):
        def signals(self, candles: Candles) -> Signals:
            promote(store, folder, old)
            learner.reload()
            return super().signals(candles)

    learner = learner_of(store, folder, [Meddling()])
    old, boast = (
        str(learner.take(lesson(learner, dataclasses.replace(verdict(), model=made), bar=bar))[0].model)
        for bar, made in ((100, model(bias=0.5)), (110, model(gain=0.9, gain_deviation=0.01, bars=10_000)))
    )
    made = learner.learn({BTC: MARKET[BTC]}, NEWEST, "schedule")
    assert made.champions == {"rule": boast}
    assert set(made.fallen) == {"rule"}
    assert learner.in_use == {"rule": old}
    told = learner.take(dataclasses.replace(made, verdicts={"rule": verdict(bias=0.9)}))
    assert [(each.outcome, each.reason) for each in told] == [("rejected", "the champion was replaced meanwhile")]
    assert champion(store) == old


@pytest.mark.parametrize("patience", [0, 1])
def test_a_stop_is_heard_between_strategies(store: MemoryStore, folder: Path, patience: int) -> None:
    looks: list[int] = []

    def stopping() -> bool:
        looks.append(1)
        return len(looks) > patience

    learner = learner_of(store, folder, [Rule("a"), Rule("b")])
    with pytest.raises(TrainingStopped):
        learner.learn(MARKET, NEWEST, "schedule", stopping)
    assert len(looks) == patience + 1


# putting it in force --------------------------------------------------------------------------------------------------


def test_a_better_model_is_promoted_and_used(store: MemoryStore, folder: Path) -> None:
    learner = learner_of(store, folder)
    with log_lines() as log:
        (told,) = learner.take(lesson(learner, verdict(), bar=600))
    assert found(store, Training) == [told]
    assert (told.strategy, told.time, told.outcome, told.trigger) == (
        "rule",
        START + 600 * HOUR,
        "promoted",
        "schedule",
    )
    assert (told.reason, told.scores, told.seconds, told.run_id) == ("because", {"gain": 0.02}, 1.5, "run-1")
    (version,) = versions(store)
    assert (version.id, version.status, version.parent) == (told.model, ModelStatus.CHAMPION, None)
    assert (version.activated_at_bar, version.data_hash, version.scores) == (told.time, "d47a", {"gain": 0.02})
    assert version.config["learning"]["every_bars"] == 48
    assert checkpoint_path(folder, version).read_bytes() == model().to_bytes()
    assert learner.strategies[0].model == model()
    assert learner.strategies[0].version == version.id
    assert learner.in_use == {"rule": version.id}
    assert [(job.job, job.slot) for job in found(store, JobRun)] == [
        ("check", START + 592 * HOUR), ("train", START + 592 * HOUR),
    ]  # fmt: skip
    assert [line.split()[:4] for line in log] == [["INFO", "learn", "rule", "promoted:"]]
    (after,) = learner.take(lesson(learner, verdict(bias=0.2), bar=700))
    first, second = versions(store)
    assert (first.status, second.status, second.parent) == (ModelStatus.RETIRED, ModelStatus.CHAMPION, first.id)
    assert learner.in_use == {"rule": second.id} == {"rule": after.model}
    assert learner_of(store, folder).strategies[0].model == model(bias=0.2), "in the next life too"


def test_one_that_is_not_better_is_kept_and_not_used(store: MemoryStore, folder: Path) -> None:
    learner = learner_of(store, folder)
    (first,) = taught(learner, 0.1)
    (told,) = learner.take(lesson(learner, verdict("rejected", bias=0.2)))
    assert (told.outcome, told.reason) == ("rejected", "because")
    assert champion(store) == first
    assert learner.strategies[0].model == model()
    (rejected,) = (version for version in versions(store) if version.id == told.model)
    assert (rejected.status, rejected.parent, rejected.activated_at_bar) == (ModelStatus.REJECTED, None, None)
    promote(store, folder, rejected.id)
    with log_lines() as log:
        assert learner.outdated()
        learner.reload()
        assert not learner.outdated()
    assert learner.strategies[0].model == model(bias=0.2)
    assert [line.split()[:4] for line in log] == [["WARNING", "learn", "rule", "uses"]]


@pytest.mark.parametrize(("outcome", "level"), [("too_little", "INFO"), ("failed", "ERROR")])
def test_where_nothing_was_trained_that_is_written(store: MemoryStore, folder: Path, outcome: str, level: str) -> None:
    learner = learner_of(store, folder)
    (first,) = taught(learner, 0.1)
    with log_lines() as log:
        (told,) = learner.take(lesson(learner, verdict(outcome, reason="3 signals")))
    assert (told.outcome, told.reason, told.model) == (outcome, "3 signals", None)
    assert outcomes(store)[-1] == (600, "schedule", outcome, None)
    assert (champion(store), learner.in_use) == (first, {"rule": first})
    assert learner.due(told.time) is None
    (line,) = log
    assert line.split()[:3] == [level, "learn", "rule"]
    assert "3 signals" in line


def test_a_pinned_champion_stays(store: MemoryStore, folder: Path) -> None:
    learner = learner_of(store, folder)
    _, second = taught(learner, 0.1, 0.2)
    pin(store, second, True)
    (told,) = learner.take(lesson(learner, verdict(bias=0.3)))
    assert (told.outcome, told.reason) == ("pinned", f"{second} is pinned: because")
    assert (champion(store), learner.in_use) == (second, {"rule": second})
    assert {version.id: version.status for version in versions(store)}[str(told.model)] == ModelStatus.REJECTED
    with log_lines() as log:
        (told,) = learner.take(lesson(learner, bar=700, trigger="drift", fallen={"rule": FALLEN}))
    assert (told.outcome, told.model) == ("fallen", second)
    assert told.reason == f"pinned, so it stays: {FALLEN.words()}"
    assert champion(store) == second
    assert [line.split()[0] for line in log] == ["WARNING"]


def test_a_fallen_champion_goes_back_to_its_parent_then_to_the_rule(store: MemoryStore, folder: Path) -> None:
    learner = learner_of(store, folder)
    first, second = taught(learner, 0.1, 0.2)
    with log_lines() as log:
        (told,) = learner.take(lesson(learner, bar=600, trigger="drift", fallen={"rule": FALLEN}))
    assert (told.outcome, told.trigger, told.model) == ("rolled_back", "drift", second)
    assert told.reason == f"{FALLEN.words()}; {first} is back"
    assert told.scores == {"gain": -0.3, "low": 0.1, "bars": 500}
    assert (champion(store), learner.in_use) == (first, {"rule": first})
    assert learner.strategies[0].model == model()
    assert [line.split()[0] for line in log] == ["WARNING"]
    (told,) = learner.take(lesson(learner, bar=700, trigger="drift", fallen={"rule": FALLEN}))
    assert told.reason.endswith("; the rule's own confidence is back")
    assert (champion(store), learner.in_use) == (None, {})
    assert learner.strategies[0].model is None
    assert learner.strategies[0].version is None
    assert learner_of(store, folder).in_use == {}


def test_a_fallen_champion_s_successor_follows_on_the_one_before(store: MemoryStore, folder: Path) -> None:
    learner = learner_of(store, folder)
    first, second = taught(learner, 0.1, 0.2)
    told = learner.take(lesson(learner, verdict(bias=0.3), trigger="drift", fallen={"rule": FALLEN}))
    assert [each.outcome for each in told] == ["rolled_back", "promoted"]
    kept = {version.id: version for version in versions(store)}
    assert champion(store) == told[1].model
    assert kept[str(told[1].model)].parent == first
    assert kept[second].status is ModelStatus.RETIRED
    assert learner.strategies[0].model == model(bias=0.3)


def test_what_the_user_promoted_meanwhile_wins(store: MemoryStore, folder: Path) -> None:
    learner = learner_of(store, folder)
    first, _ = taught(learner, 0.1, 0.2)
    made = lesson(learner, verdict(bias=0.3), fallen={"rule": FALLEN})
    promote(store, folder, first)
    (told,) = learner.take(made)
    assert (told.outcome, told.reason) == ("rejected", "the champion was replaced meanwhile")
    assert (champion(store), learner.in_use) == (first, {"rule": first}), "neither replaced nor taken back"


def test_models_of_a_backtest_live_in_memory(store: MemoryStore, tmp_path: Path) -> None:
    learner = learner_of(store, None)
    first, _ = taught(learner, 0.1, 0.2)
    learner.take(lesson(learner, trigger="drift", fallen={"rule": FALLEN}))
    assert learner.in_use == {"rule": first}
    assert learner.strategies[0].model == model()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["_mine", "größe", "a" * 120])
def test_any_name_a_strategy_may_have_names_a_model(store: MemoryStore, folder: Path, name: str) -> None:
    learner = learner_of(store, folder, [Rule(name)])
    (told,) = learner.take(lesson(learner, verdict(strategy=name)))
    assert told.outcome == "promoted", told.reason
    assert learner_of(store, folder, [Rule(name)]).in_use == {name: told.model}
