"""The documents name only what exists: links, verbs, keys, files, degraded parts, exit codes; the unit file parses."""

from __future__ import annotations

import configparser
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.storage.records import record
from trading_bot import errors
from trading_bot.cli.main import VERBS
from trading_bot.domain.account import Trade
from trading_bot.settings import PREFIX, known_keys, load_settings, places
from trading_bot.storage.store import open_store
from trading_bot.trading.risk import Latch

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "trading_bot").rglob("*.py")))
JOBS = {"commands", "orders", "reconcile", "heartbeat", "candles", "models"}


def section(title: str) -> str:
    """The text below a heading, up to the next one of any level."""
    match = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##|\Z)", OPERATIONS, re.MULTILINE | re.DOTALL)
    assert match, title
    return match[1]


def first_column(table: str) -> list[str]:
    """What stands in the first column of the table's body, without backticks."""
    rows = [line for line in table.splitlines() if line.startswith("|")]
    return [word for row in rows[2:] for word in re.findall(r"[^`,\s]+", row.split("|")[1])]


def in_backticks(text: str) -> set[str]:
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return {" ".join(word.split()) for word in re.findall(r"`([^`]+)`", prose)}


def anchors(page: Path) -> set[str]:
    """Headings as GitHub makes links of them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{page.name}: {target}"
        assert ROOT in there.parents, f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.name}: {target}"


def test_every_verb_is_told_of() -> None:
    told = set(re.findall(r"trading-bot ([a-z][a-z-]+)", (ROOT / "README.md").read_text() + OPERATIONS))
    assert sorted(set(VERBS) - told) == []
    assert sorted(told - set(VERBS)) == []


def test_degraded_parts_are_those_of_the_code() -> None:
    named = set(first_column(section("Degraded")))
    set_by_name = set(re.findall(r'degraded\["(\w+)"\]|_degrade\("(\w+)"', SOURCE))
    in_code = {one or other for one, other in set_by_name}
    jobs = set(re.findall(r'^ +\("(\w+)", .+, [\w.]+\),$', SOURCE, re.MULTILINE)) & JOBS | {"candles"}
    assert len(jobs) == len(JOBS)
    assert named == in_code | jobs


def test_exit_codes_are_those_of_the_code() -> None:
    named = {int(code) for code in first_column(section("Is it well?"))}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.TradingBotError)}
    assert named == codes | {0, 2}  # 2 is click's


def test_latches_are_those_of_the_code() -> None:
    assert first_column(section("The drawdown latch")) == [latch.name.lower() for latch in Latch if latch]


def test_files_it_names_are_made_by_the_code() -> None:
    listed = in_backticks(section("Files"))
    names = {name for name in listed if re.fullmatch(r"[\w-]+(\.\w+|/)?(-\w+)?", name)} - {"data_dir", "logfile"}
    assert len(names) >= 11
    for name in names:
        bare = re.sub(r"-(wal|shm)$", "", name).rstrip("/").replace("old-DATE", "old-")
        assert f'"{bare}' in SOURCE or f"{bare}'" in SOURCE, name


def test_keys_it_names_exist_with_the_values_it_gives() -> None:
    tree = known_keys()
    known = set(places(tree))
    for key in in_backticks(OPERATIONS):
        if re.fullmatch(r"[a-z_]+\.(?!sqlite|json|lock|log)[a-z_]+", key) and key.partition(".")[0] in tree:
            assert key in known, key
    defaults: Any = load_settings([], {}, {})
    given = re.findall(r"`([a-z_]+)\.([a-z_]+)`\s\((\d+)[,)]", OPERATIONS)
    assert len(given) >= 7
    for part, key, value in given:
        assert getattr(getattr(defaults, part), key) == float(value), f"{part}.{key}"


def test_variables_it_names_exist() -> None:
    known = {f"{PREFIX}{place.replace('.', '__').upper()}" for place in places(known_keys())}
    named = set(re.findall(rf"{PREFIX}\w+", OPERATIONS))
    assert len(named) >= 4
    assert sorted(named - known) == []


# ── the unit file ──────────────────────────────────────────────────────────────────────────────────────────────────


def unit_text() -> str:
    match = re.search(r"^```ini\n(.*?)^```", OPERATIONS, re.MULTILINE | re.DOTALL)
    assert match
    return match[1]


@pytest.fixture
def unit() -> Mapping[str, Mapping[str, str]]:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",))  # keys of a unit file may come again
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit_text())
    return parser


def test_the_unit_file_starts_the_daemon_and_is_hardened(unit: Mapping[str, Mapping[str, str]]) -> None:
    service = unit["Service"]
    words = service["ExecStart"].split()
    assert words[0].endswith("/bin/trading-bot")
    assert words[1] in VERBS
    assert service["Type"] == "exec"
    assert service["KillMode"] == "mixed"
    assert service["Restart"] == "on-failure"
    assert service["ProtectSystem"] == "strict"
    assert service["MemoryMax"]
    assert set(service["RestartPreventExitStatus"].split()) == {"2", str(errors.ConfigurationError.exit_code)}
    patience: Any = load_settings([], {}, {})
    assert float(service["TimeoutStopSec"]) > 2 * patience.service.shutdown_seconds
    credential = service["LoadCredential"].split(":")[0]
    assert f"CREDENTIALS_FILE=%d/{credential}" in unit_text()
    folders = (service["StateDirectory"], service["LogsDirectory"])
    assert f"/var/lib/{folders[0]}\n" in unit_text()
    assert f"/var/log/{folders[1]}/" in unit_text()
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_systemd_finds_the_unit_file_well_protected(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here")
    path = tmp_path / "trading-bot.service"
    path.write_text(unit_text())
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=20", "--no-pager", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "Unknown" in done.stderr or "unrecognized" in done.stderr:
        pytest.skip(f"this systemd-analyze is too old: {done.stderr.strip()}")
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]


# ── backups ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_backup_command_copies_a_database_in_use(tmp_path: Path) -> None:
    backup, check = (line for line in section("Backups").splitlines() if line.startswith("python3 -c"))
    store = open_store(f"sqlite:///{tmp_path}/data/trading_bot.sqlite")
    with store.transaction() as tx:
        tx.add(record(Trade))
    said = [
        subprocess.run(
            ["bash", "-c", command.replace("python3", sys.executable, 1)],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        ).stdout.strip()
        for command in (backup, check)
    ]  # fmt: skip
    store.close()
    assert said == ["", "ok"]
    rows = sqlite3.connect(tmp_path / "backup.sqlite")
    assert rows.execute("SELECT count(*) FROM trades").fetchone() == (1,)
    rows.close()
    restored = open_store(f"sqlite:///{tmp_path}/backup.sqlite")
    with restored.reading() as tx:
        assert tx.find(Trade) == [record(Trade)]
    restored.close()
