"""What the README says is so: its commands are executed in a copy of the checkout, its names exist, its code runs."""

from __future__ import annotations

import gzip
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.strategies.markets import random_walk
from trading_bot.cli.main import ALIASES, VERBS
from trading_bot.exchange.simulator.server import find_server
from trading_bot.trading.strategy import load_strategies, read_signals

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DEADLINE = 120.0  # seconds for anything to happen on a busy machine

MADE_WHILE_RUNNING = {"data/", "logs/bot_debug.log", "bot_debug.log", ".venv", "my-paper.yaml"}


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language ("": those that name none)."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [body for name, body in fenced if name == language]


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]


def form(command: str) -> str:
    """How a command is tried: make-run, make-test, run, verb or look; unknown ones fail."""
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
    if words[0] == "make":
        return f"make-{words[1]}"
    if words[0] == ".venv/bin/trading-bot":
        return "run" if ALIASES.get(words[1], words[1]) == "run" else "verb"
    if words[0] == "tail":
        return "look"
    return "unknown"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_form_of_every_command_is_known(command: str) -> None:
    assert form(command) in {"make-run", "make-test", "run", "verb", "look"}


def test_the_commands_are_found() -> None:
    assert "make run" in COMMANDS
    assert "make test" in COMMANDS
    assert sum(form(command) == "verb" for command in COMMANDS) >= 12


# ── the commands, for real ─────────────────────────────────────────────────────────────────────────────────────────


class Sandbox:
    """A copy of the checkout in which a stranger types what the README says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Started] = []
        ours = {name for name in os.environ if name.startswith(("TRADING_BOT__", "MAKE", "MFLAGS", "PYTEST"))}
        self.environment = {name: value for name, value in os.environ.items() if name not in ours} | {
            "PYTHONPATH": str(folder),  # the copy's code, though the environment was installed from the checkout
        }

    def type(self, command: str) -> tuple[int, str]:
        """Run a command to its end; its exit code and everything it said."""
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def start(self, command: str) -> Started:
        """Run a command in a process group of its own, as a terminal does; it is left running."""
        output = self.folder / f"said-{len(self.started)}.txt"
        with output.open("wb") as sink:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {command}"], cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.started.append(Started(process, output))
        return self.started[-1]

    def log(self) -> str:
        link = self.folder / "bot_debug.log"
        return link.read_text() if link.exists() else ""

    def exchanges(self) -> list[int]:
        """Process ids of the local exchanges that serve this folder."""
        states = (path.parent for path in (self.folder / "data").rglob("exchange.json"))
        return [server.pid for server in map(find_server, states) if server is not None]

    def clean_up(self) -> None:
        for one in self.started:
            if one.process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(one.process.pid, signal.SIGKILL)
                one.process.wait()
        for pid in self.exchanges():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Started:
    """A command that goes on."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process, self._output = process, output

    def said(self) -> str:
        return self._output.read_text(errors="replace")

    def wait_for(self, there: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while not there():
            ended = self.process.poll()
            assert ended is None or there(), f"ended with {ended} before {what}: {self.said()[-3000:]}"
            assert time.monotonic() < deadline, f"not in {DEADLINE:g} s: {what}: {self.said()[-3000:]}"
            threading.Event().wait(0.05)

    def ended(self) -> int:
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end: {self.said()[-3000:]}") from None

    def interrupt(self) -> int:
        """Ctrl-C: the terminal sends SIGINT to everything in the foreground."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.ended()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    folder = tmp_path / "checkout"
    copy_checkout(folder)
    borrow_environment(folder / ".venv")
    (folder / "candles").mkdir()
    write_candles(folder / "candles" / "BTC_USDT-1h.csv.gz")
    made = Sandbox(folder)
    try:
        yield made
    finally:
        made.clean_up()


def copy_checkout(folder: Path) -> None:
    """What a clone would hold: tracked files, and new ones that are not ignored."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files belong to it cannot be told")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def borrow_environment(folder: Path) -> None:
    """An installed .venv: ours, by links, with the Makefile's own marks that nothing is left to install."""
    if not (Path(sys.prefix) / "bin" / "trading-bot").exists():
        pytest.skip(f"trading-bot is not installed in {sys.prefix}; `make test` does that")
    folder.mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name not in (".run", ".dev"):
            (folder / entry.name).symlink_to(entry)
    for mark in (".run", ".dev"):
        (folder / mark).touch()


def write_candles(path: Path) -> None:
    """Hourly candles from 2024-01-01 to 2024-03-10."""
    walk = random_walk(1680)
    time = 1_704_067_200_000 + np.arange(len(walk)) * 3_600_000
    columns = (walk.open, walk.high, walk.low, walk.close, walk.volume)
    rows = zip(time.tolist(), *(np.round(column, 2).tolist() for column in columns), strict=True)
    lines = ["timestamp,open,high,low,close,volume", *(",".join(map(str, row)) for row in rows)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_command_works_as_written(sandbox: Sandbox) -> None:
    bot: Started | None = None
    for command in COMMANDS:
        kind = form(command)
        if kind == "make-test":
            continue  # this is it
        if kind == "make-run":
            bot = sandbox.start(command)
            bot.wait_for(lambda: " decision " in sandbox.log(), "the first decision")
            bot.wait_for(lambda: re.search(r" trade .* T1 open ", sandbox.log()) is not None, "the first trade")
        elif kind == "run":
            other = sandbox.start(command)
            other.wait_for(lambda one=other: " decision " in one.said(), "a decision")  # type: ignore[misc]
            assert other.interrupt() == 0, other.said()
        else:
            code, said = sandbox.type(command)
            assert code == 0, f"{command}: exit code {code}\n{said}"
            assert said.strip(), f"{command}: said nothing"
            assert "Traceback" not in said
    assert bot is not None
    assert bot.ended() == 0, bot.said()  # the last command is `stop`
    assert sandbox.exchanges() == []
    go_on_and_stop_by_ctrl_c(sandbox)


def go_on_and_stop_by_ctrl_c(sandbox: Sandbox) -> None:
    before = sandbox.log()
    again = sandbox.start("make run")
    again.wait_for(lambda: " decision " in sandbox.log()[len(before) :], "a decision after the second start")
    again.interrupt()  # make says that it was interrupted, whatever its child did
    new = sandbox.log()[len(before) :]
    assert "recovery" in new
    assert not re.search(r" account .* opened ", new), "the same account goes on"
    assert "stopping: SIGINT" in new
    assert "forced" not in new
    assert " ERROR " not in new
    assert sandbox.exchanges() == []
    code, said = sandbox.type(".venv/bin/trading-bot status")
    assert code == 3
    assert "stopped" in said


# ── your own strategy ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def idea(tmp_path: Path) -> Path:
    """The README's strategy, in a folder of its own."""
    (code,) = blocks("python")
    (tmp_path / "my_idea.py").write_text(code)
    return tmp_path


def test_the_strategy_is_loaded_and_keeps_the_contract(idea: Path) -> None:
    (strategy,) = load_strategies(idea)
    assert strategy.name == "my_idea"
    market = random_walk(1_500)
    whole = read_signals(strategy, market)
    judged = slice(strategy.warmup, None)
    assert set(np.unique(whole.side[judged])) == {-1, 1}
    assert whole.confidence.min() >= 0.0
    assert whole.confidence.max() <= 1.0
    assert len(np.unique(whole.confidence[judged])) > 50
    for end in range(strategy.warmup, len(market), 97):
        part = read_signals(strategy, market[:end])
        np.testing.assert_array_equal(part.side, whole.side[:end])
        np.testing.assert_array_equal(part.confidence, whole.confidence[:end])


@pytest.mark.parametrize(
    "words", [["check", "--no-cache"], ["format", "--check", "--no-cache"]], ids=["check", "format"]
)
def test_the_strategy_is_code_we_would_accept(words: list[str]) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("ruff is not installed beside this Python")
    done = subprocess.run(
        [ruff, *words, "--stdin-filename", "strategies/my_idea.py", "-"],
        cwd=ROOT, input=blocks("python")[0], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def spoken() -> list[str]:
    """Everything in backticks outside the fenced blocks."""
    prose = re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+)`", prose)


def test_files_and_folders_it_names_exist() -> None:
    named = {word for word in spoken() if re.fullmatch(r"[\w./*-]+(/|\.(py|yaml|md|log))", word)}
    assert len(named) >= 15
    missing = [
        name
        for name in sorted(named - MADE_WHILE_RUNNING)
        if not list(ROOT.glob(name)) and not list((ROOT / "trading_bot").glob(name))
    ]
    assert missing == []


def test_ten_hops_name_ten_places() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", README, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 11))
    for _, where in rows:
        places = re.findall(r"`([^`]+)`", where)
        assert places
        for place in places:
            assert list((ROOT / "trading_bot").glob(place)) or list(ROOT.glob(place)), place


def test_verbs_and_targets_it_names_exist() -> None:
    named = re.findall(r"trading-bot ([a-z][a-z-]+)", README)
    assert len(named) >= 15
    assert sorted(set(named) - set(VERBS)) == []
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)`", README)) <= targets


def test_the_table_of_configurations_is_that_of_the_folder() -> None:
    rows = set(re.findall(r"^\| `config/([\w-]+)\.yaml`", README, re.MULTILINE))
    assert rows == {path.stem for path in (ROOT / "config").glob("*.yaml")} - {"default", "docker"}


def test_the_excerpt_of_the_log_is_what_the_log_looks_like() -> None:
    kinds = set()
    for line in "".join(blocks("")).splitlines():
        match = re.match(r"(?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d\.\d{3} (?:DEBUG|INFO|WARNING|ERROR) +(\w+) ", line)
        assert match, line
        kinds.add(match[1])
    source = "".join(path.read_text() for path in (ROOT / "trading_bot").rglob("*.py"))
    assert all(f'"{kind}"' in source for kind in kinds)
    assert {"regime", "weights", "decision", "order", "fill", "trade", "learn"} <= kinds
