"""The daemon learns beside its decisions: what is in force when, what fails and is told, and nothing that hangs."""

from __future__ import annotations

import asyncio
import dataclasses
import multiprocessing
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from tests.service.stand import Clock, bot_on, log_lines, running, until
from tests.trading.lessons import BTC, CONFIG, ETH, learner_of, lesson, model, to_and_fro, verdict
from tests.trading.stage import HOUR, START, WARMUP, Stage
from trading_bot.bootstrap import Bot
from trading_bot.domain.journal import Decision, JobRun, Snapshot, Training
from trading_bot.domain.market import Candles
from trading_bot.errors import ExchangeUnreachable, StorageError, TrainingStopped
from trading_bot.learn.model_registry import champions, promote, versions
from trading_bot.learn.retraining import Verdict
from trading_bot.service import daemon as daemon_module
from trading_bot.service import jobs as jobs_module
from trading_bot.service.learning import LearningJob
from trading_bot.trading.events import Event, TrainingFailed, TrainingFinished
from trading_bot.trading.learning import Learner, Lesson
from trading_bot.trading.memory import STATUS

FIRST = START + (WARMUP + 9) * HOUR  # the newest bar of a stage's history; slots begin 16, 28, 40 … bars after START


@dataclass(slots=True)
class Pupil(Learner):
    """Learns what it is told to, when it is let to: the training alone is made up."""

    script: list[Verdict | BaseException] = field(default_factory=list)  # what comes of the next trainings
    gate: Any = field(default_factory=threading.Event)
    begun: list[tuple[int, str]] = field(default_factory=list)  # bar, trigger
    symbols: list[list[str]] = field(default_factory=list)  # with candles, of each training
    before_end: Callable[[], None] = lambda: None
    taking: list[Exception] = field(default_factory=list)  # what the next lessons meet when they are put in force

    def learn(
        self, candles: Mapping[str, Candles], time: int, trigger: str, stopping: Callable[[], bool] = lambda: False
    ) -> Lesson:
        used = {strategy.name: strategy.version for strategy in self.strategies}
        self.begun.append(((time - START) // HOUR, trigger))
        self.symbols.append(sorted(candles))
        while not self.gate.wait(0.005):
            if stopping():
                raise TrainingStopped("the training was given up")
        self.before_end()
        said = self.script.pop(0) if self.script else None
        if isinstance(said, BaseException):
            raise said
        told = {} if said is None else {said.strategy: said}
        return Lesson(time, "drift" if trigger == "check" else trigger, told, {}, used)

    def take(self, lesson: Lesson) -> list[Training]:
        if self.taking:
            raise self.taking.pop(0)
        return Learner.take(self, lesson)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_module, "STORAGE_PAUSE", 0.02)
    monkeypatch.setattr(jobs_module, "COMMAND_SECONDS", 0.02)
    monkeypatch.setattr(jobs_module, "MODELS_SECONDS", 0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


def bot_with(folder: Path, *script: Any, bars: int = 70, stage: Stage | None = None) -> tuple[Bot, Pupil]:
    """A bot in a market that waits and ends after so many bars, of which it decides the 30th first, and its pupil."""
    made = stage or Stage({BTC: to_and_fro(bars, 1)}, {})
    bot = bot_on(made)
    pupil = learner_of(made.store, folder, kind=Pupil, script=list(script))
    assert isinstance(pupil, Pupil)
    pupil.gate.set()
    bot.learner = pupil
    clock_of(bot).waits = True
    return bot, pupil


def clock_of(bot: Bot) -> Clock:
    assert isinstance(bot.clock, Clock)
    return bot.clock


def found(bot: Bot, kind: type[Any], **where: Any) -> list[Any]:
    with bot.store.reading() as tx:
        return list(tx.find(kind, **where))


def lived(bot: Bot) -> list[str]:
    """A whole life; what was logged."""
    with log_lines() as log, running(bot) as life:
        life.thread.join(30)
    assert str(life.outcome[0]).startswith("the candles have ended"), life.outcome
    return log


def learned(log: list[str]) -> list[str]:
    """Lines about the training as a whole."""
    return [line for line in log if line.split()[1:3] == ["learn", "all"]]


def status(bot: Bot) -> Any:
    with bot.store.reading() as tx:
        saved = tx.get(Snapshot, STATUS)
    return {} if saved is None else saved.value


def watched(bot: Bot, pupil: Pupil) -> list[str | None]:
    """What is shown of learning as degraded, by memory and status alike, when each training ends."""
    shown: list[str | None] = []

    def look() -> None:
        shown.append(bot.trader.memory.degraded.get("learning"))
        assert len(shown) == 1 or status(bot)["degraded"].get("learning") == shown[-1]

    pupil.before_end = look
    return shown


# put in force ---------------------------------------------------------------------------------------------------------


def test_what_was_learned_is_in_force_from_the_next_bar(folder: Path) -> None:
    bot, pupil = bot_with(folder, verdict())
    log = lived(bot)
    assert pupil.begun == [(29, "schedule"), (40, "check"), (52, "check"), (64, "schedule")]
    (told,) = found(bot, Training)
    (champion,) = champions(bot.store)
    assert (told.outcome, told.time, told.model) == ("promoted", FIRST, champion.id)
    assert pupil.strategies[0].model == model()
    words = learned(log)
    assert "training begins" in words[0]
    assert "trigger=schedule" in words[0]
    assert "1 promoted" in words[1]
    assert len(words) == 3, "a look that changes nothing is no news"
    shown = status(bot)["learning"]
    assert shown["models"] == {"rule": champion.id}
    assert (shown["last"], shown["outcomes"], shown["strategies"]) == (FIRST, {"promoted": 1}, 1)
    assert len(found(bot, Decision)) == 41


def test_real_trainings_in_a_life(folder: Path) -> None:
    stage = Stage({BTC: to_and_fro(1_120, 1), ETH: to_and_fro(1_120, 2, ETH)}, {}, history=1_050)
    bot = bot_on(stage)
    bot.learner = learner_of(stage.store, folder)
    clock_of(bot).waits = True
    log = lived(bot)
    told = found(bot, Training)
    assert [each.outcome for each in told][:1] == ["promoted"]
    assert len(told) >= 2
    assert {each.trigger for each in told} == {"schedule"}
    assert not [line for line in log if line.startswith("ERROR")]


def test_a_market_that_waits_waits_for_a_training(folder: Path) -> None:
    bot, pupil = bot_with(folder, verdict(), bars=100)
    pupil.gate.clear()
    with running(bot) as life:
        until(lambda: pupil.begun, "no training")
        for number in range(3):  # it deals with all else
            assert life.obeyed("pause", number).startswith("paused")
        assert life.obeyed("train") == ("a training is under way already; `trading-bot status` tells when it is done")
        assert bot.trader.memory.time == FIRST
        assert len(found(bot, Decision)) == 1
        assert pupil.begun == [(29, "schedule")]
        pupil.gate.set()
        life.thread.join(30)
    assert len(found(bot, Decision)) == 71
    assert [each.outcome for each in found(bot, Training)] == ["promoted"]


def test_a_market_that_goes_on_does_not_wait(folder: Path) -> None:
    """Bars are decided while a training runs, and what fell due meanwhile is done afterwards, once."""

    class Passed:
        """Opens once bar 70 has been decided."""

        def wait(self, seconds: float) -> bool:
            threading.Event().wait(seconds)
            return bool(bot.trader.memory.time >= START + 70 * HOUR)

    bot, pupil = bot_with(folder, verdict(), bars=400)
    clock_of(bot).waits = False
    pupil.gate = Passed()
    ended: list[int] = []
    pupil.before_end = lambda: ended.append(bot.trader.memory.time)
    lived(bot)
    assert ended[0] >= START + 70 * HOUR
    assert pupil.begun[0] == (29, "schedule")
    assert pupil.begun[1][0] > 70
    assert pupil.begun[1][1] == "schedule", "that of bar 64; the looks of 40 and 52 are in it"
    (told,) = found(bot, Training)
    assert (told.time, told.outcome) == (FIRST, "promoted")
    assert len(found(bot, Decision)) == 371


def test_the_user_asks_for_a_training(folder: Path) -> None:
    bot, pupil = bot_with(folder)
    clock_of(bot).still = True
    with running(bot) as life:
        until(lambda: pupil.begun and not bot.trader.memory.learning.get("busy"), "the first training is not done")
        pupil.script.append(verdict())
        assert life.obeyed("train").startswith("training rule; ")
        until(lambda: champions(bot.store), "nothing was promoted")
    assert pupil.begun == [(29, "schedule"), (29, "demand")]
    assert [each.trigger for each in found(bot, Training)] == ["demand"]


def test_where_nothing_is_learned_the_user_is_told_why(folder: Path) -> None:
    bot, pupil = bot_with(folder)
    job = LearningJob(bot, pupil, Queue(), lambda: False)
    assert job.demand(-1) == "no bar has closed yet: there is nothing to learn from"
    assert not pupil.begun
    bot.learner = None
    clock_of(bot).still = True
    with running(bot) as life:
        assert life.obeyed("train").startswith("nothing is trained: learning.enabled is false, or no strategy")


def test_the_user_promotes_while_a_training_runs(folder: Path) -> None:
    """That is taken up at once, and stays when the training ends."""
    bot, pupil = bot_with(folder, verdict(bias=0.9))
    first, second = (
        str(pupil.take(lesson(pupil, verdict(bias=0.1 * bar), bar=bar, trigger="demand"))[0].model) for bar in (1, 2)
    )
    clock_of(bot).still = True
    pupil.gate.clear()
    with log_lines() as log, running(bot) as life:
        until(lambda: pupil.begun, "no training")
        assert pupil.in_use == {"rule": second}
        promote(bot.store, folder, first)
        until(lambda: pupil.in_use == {"rule": first}, "not taken up")
        assert bot.trader.memory.learning["busy"]
        pupil.gate.set()
        until(lambda: len(found(bot, Training)) == 3, "the training did not end")
        life.daemon.queue.join()
    told = found(bot, Training)[-1]
    assert (told.outcome, told.reason) == ("rejected", "the champion was replaced meanwhile")
    assert pupil.in_use == {"rule": first}
    assert [line for line in log if line.startswith("WARNING") and f"uses {first} from the next bar" in line]


def test_after_a_jump_of_time_there_is_one_training(folder: Path) -> None:
    """Training and look are both due, and the bars that were missed are late: nothing is learned after those."""
    bot, pupil = bot_with(folder, bars=72)

    def jump() -> None:
        clock_of(bot).jump = 40
        pupil.before_end = lambda: None

    pupil.before_end = jump
    lived(bot)
    assert pupil.begun == [(29, "schedule"), (70, "schedule")]


def test_another_life_goes_on_where_the_last_one_ended(folder: Path) -> None:
    """A training that was begun and not put in force is begun again; one that was is not."""
    stage = Stage({BTC: to_and_fro(70, 1)}, {})
    bot, pupil = bot_with(folder, stage=stage)
    pupil.gate.clear()
    with running(bot):
        until(lambda: pupil.begun, "no training")
    again, second = bot_with(folder, verdict(), stage=stage)
    clock_of(again).still = True
    with running(again):
        until(lambda: found(again, Training), "no training")
    third, last = bot_with(folder, stage=stage)
    lived(third)
    assert pupil.begun == second.begun == [(29, "schedule")]
    assert last.begun == [(40, "check"), (52, "check"), (64, "schedule")]
    assert list(last.in_use) == ["rule"]


# what goes wrong ------------------------------------------------------------------------------------------------------


def test_a_strategy_that_fails_is_shown_until_it_is_trained(folder: Path) -> None:
    """Looks at the models meanwhile say nothing of it."""
    bot, pupil = bot_with(folder, verdict("failed", reason="killed at its deadline"), None, None, verdict(bias=0.3))
    earlier = pupil.take(lesson(pupil, verdict(bias=0.1), bar=10, trigger="demand"))[0].model
    shown = watched(bot, pupil)
    log = lived(bot)
    wanted = "training failed, what was in use stays: rule: killed at its deadline"
    assert shown == [None, wanted, wanted, wanted]
    assert "learning" not in bot.trader.memory.degraded
    (line,) = (line for line in log if line.startswith("ERROR"))
    assert line.split()[1:4] == ["learn", "rule", "failed:"]
    assert "killed at its deadline" in line
    assert [line for line in learned(log) if "works again" in line]
    assert [each.outcome for each in found(bot, Training)] == ["promoted", "failed", "promoted"]
    assert versions(bot.store)[-1].parent == earlier, "that was in use all the while"


@pytest.mark.parametrize(
    ("trouble", "cause"),
    [
        (ExchangeUnreachable("no route to the venue"), "no route to the venue"),
        (StorageError("the database is locked"), "the database is locked"),
        (MemoryError(), "MemoryError: "),
        (asyncio.CancelledError("given up"), "CancelledError: given up"),
        (SystemExit(1), "SystemExit: 1"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, BaseException) else "",
)
def test_a_training_that_fails_is_told_once_and_tried_at_the_next_slot(
    folder: Path, trouble: BaseException, cause: str
) -> None:
    bot, pupil = bot_with(folder, trouble, None, None, verdict())
    shown = watched(bot, pupil)
    log = lived(bot)
    wanted = f"training failed, what was in use stays: {cause}"
    assert shown == [None, wanted, wanted, wanted]
    assert pupil.begun == [(29, "schedule"), (40, "check"), (52, "check"), (64, "schedule")]
    (line,) = (line for line in log if line.startswith("ERROR"))
    assert f"failed, what was in use stays: {cause}".strip() in line
    assert "learning" not in bot.trader.memory.degraded
    assert len([line for line in learned(log) if "works again" in line]) == 1
    assert pupil.in_use
    assert len(found(bot, Decision)) == 41


def test_a_look_that_fails_is_shown_until_the_next(folder: Path) -> None:
    bot, pupil = bot_with(folder, None, RuntimeError("odd"), None, None)
    shown = watched(bot, pupil)
    lived(bot)
    assert shown == [None, None, "training failed, what was in use stays: RuntimeError: odd", None]


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (["failed"], True),
        (["promoted", "failed"], True),
        (["failed", "promoted"], False),
        (["failed", "too_little"], False),
        (["promoted", "failed and rolled_back"], True),
    ],
    ids=str,
)
def test_what_failed_is_shown_in_the_next_life_too(folder: Path, told: list[str], shown: bool) -> None:
    bot, pupil = bot_with(folder)
    with bot.store.transaction() as tx:
        for number, words in enumerate(told):
            for outcome in words.split(" and "):
                tx.add(Training("rule", FIRST + number * HOUR, outcome, "schedule", f"{outcome}: because"))
    LearningJob(bot, pupil, Queue(), lambda: False)
    wanted = {"learning": "training failed, what was in use stays: rule: failed: because"}
    assert bot.trader.memory.degraded == (wanted if shown else {})


def test_a_lesson_that_the_database_refuses_is_put_in_force_later(folder: Path) -> None:
    bot, pupil = bot_with(folder, verdict())
    pupil.taking = [StorageError("disk full")] * 3
    log = lived(bot)
    assert [each.outcome for each in found(bot, Training)] == ["promoted"]
    assert list(pupil.in_use) == ["rule"]
    assert len([line for line in log if "disk full; trading waits" in line]) == 1
    assert [(line.split()[1:3]) for line in log if "works again" in line] == [["daemon", "storage"]]
    assert len(found(bot, Decision)) == 41
    assert not bot.trader.memory.degraded


def test_a_stop_is_heard_while_the_database_refuses_a_lesson(folder: Path) -> None:
    bot, pupil = bot_with(folder, verdict())
    pupil.taking = [StorageError("disk full")] * 10_000
    with running(bot):
        until(lambda: "storage" in bot.trader.memory.degraded, "it did not fail")
    again, second = bot_with(folder, verdict(), stage=clock_of(bot).stage)
    lived(again)
    assert second.begun[0] == (29, "schedule")
    assert [each.outcome for each in found(again, Training)] == ["promoted"]


def test_a_lesson_that_cannot_be_put_in_force_does_not_hold_the_market_up(folder: Path) -> None:
    bot, pupil = bot_with(folder, verdict(), None, None, verdict())
    pupil.taking = [KeyError("a defect of ours")]
    shown = watched(bot, pupil)
    lived(bot)
    assert shown[1] == "training failed, what was in use stays: KeyError: 'a defect of ours'"
    assert [each.time for each in found(bot, Training)] == [START + 64 * HOUR]
    assert len(found(bot, Decision)) == 41


@pytest.mark.parametrize(("broken", "learns"), [((BTC,), True), ((BTC, ETH), False)])
def test_candles_that_cannot_be_fetched(folder: Path, broken: tuple[str, ...], learns: bool) -> None:
    """Those of one symbol are done without; where there are none the training fails."""
    bot, pupil = bot_with(folder, stage=Stage({BTC: to_and_fro(70, 1), ETH: to_and_fro(70, 2, ETH)}, {}))
    feed: Any = bot.feed
    feed.troubles = {symbol: [ExchangeUnreachable(f"no route to {symbol}")] for symbol in broken}
    queue: Queue[Event] = Queue()
    job = LearningJob(bot, pupil, queue, lambda: False)
    with log_lines() as log:
        job.after_bar(FIRST + HOUR)  # newer than what is stored
        happened = queue.get(timeout=20)
    assert feed.pulls == [BTC, ETH]
    if learns:
        assert isinstance(happened, TrainingFinished)
        assert pupil.symbols == [[BTC, ETH]], "what is stored of it is there"
        assert [line for line in log if line.startswith("WARNING") and BTC in line and "no route" in line]
    else:
        assert happened == TrainingFailed(FIRST + HOUR, "no route to BTC/USDT")
        assert not pupil.begun


def test_a_symbol_without_candles_is_left_out(folder: Path) -> None:
    bot, pupil = bot_with(folder, stage=Stage({BTC: to_and_fro(70, 1), ETH: to_and_fro(70, 2, ETH)[60:]}, {}))
    queue: Queue[Event] = Queue()
    LearningJob(bot, pupil, queue, lambda: False).after_bar(FIRST)
    assert isinstance(queue.get(timeout=20), TrainingFinished)
    assert pupil.symbols == [[BTC]]


# a stop ---------------------------------------------------------------------------------------------------------------


def test_a_stop_ends_a_training_and_its_processes(folder: Path) -> None:
    stage = Stage({BTC: to_and_fro(1_200, 1)}, {}, history=1_100)
    bot = bot_on(stage)
    bot.learner = learner_of(
        stage.store, folder, executor="process", config=dataclasses.replace(CONFIG, epochs=100_000)
    )
    clock_of(bot).waits = True
    with running(bot) as life:
        until(multiprocessing.active_children, "no process was started")
        life.stop()
        assert not multiprocessing.active_children()
        assert not [each for each in threading.enumerate() if each.name == "learning"]
    assert life.outcome == ["the test is over"]
    assert not found(bot, Training)
    assert not found(bot, JobRun, job="train"), "it is begun again in the next life"
