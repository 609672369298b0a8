"""The container: parsed, since no container engine is at hand; hardened, and without a secret in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from trading_bot.cli.main import VERBS, cli
from trading_bot.settings import load_settings

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_services_are_hardened(compose: Any) -> None:
    assert sorted(compose["services"]) == ["bot", "postgres"]
    for service in compose["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert 0 < service["pids_limit"] <= 256
        assert not service["user"].startswith("0")
        assert service["mem_limit"]
        assert service["healthcheck"]["test"]
        assert "privileged" not in service
        assert "ports" not in service  # nothing listens to the outside


def test_secrets_are_files_and_not_in_the_repository(compose: Any) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert not re.search(r"(?i)password[ \t]*[:=][ \t]*[^/\s{]", text)
    for name, secret in compose["secrets"].items():
        assert secret["file"] == f"./secrets/{name}"
    assert "/secrets/" in (ROOT / ".gitignore").read_text()
    assert "secrets" in (ROOT / ".dockerignore").read_text().split()
    for service in compose["services"].values():
        assert set(service["secrets"]) <= set(compose["secrets"])


def test_volumes_are_declared_and_cover_what_is_written(compose: Any, tmp_path: Path) -> None:
    bot = compose["services"]["bot"]
    mounts = dict(volume.split(":")[:2][::-1] for volume in bot["volumes"])
    assert {name for name in mounts.values() if not name.startswith(".")} <= set(compose["volumes"])
    secret = tmp_path / "password"
    secret.write_text("x")
    files = [ROOT / word for word in bot["command"] if word.endswith(".yaml")]
    settings = load_settings(files, {"db_password_file": str(secret)}, {})
    assert str(settings.data_dir) in mounts
    assert str(settings.logfile.parent) in mounts
    postgres = compose["services"]["postgres"]["environment"]
    assert f"{postgres['POSTGRES_USER']}:x@postgres:5432/{postgres['POSTGRES_DB']}" in settings.database_url


def test_commands_are_verbs_that_parse(compose: Any) -> None:
    bot = compose["services"]["bot"]
    health = bot["healthcheck"]["test"]
    assert health[:2] == ["CMD", "trading-bot"]
    for words in (bot["command"], health[2:]):
        assert words[0] in VERBS
        assert CliRunner().invoke(cli, [*words, "--help"]).exit_code == 0


def test_the_image_runs_as_nobody_special_with_pinned_versions() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^USER 10001", text, re.MULTILINE)
    assert "-c constraints.txt" in text
    assert (ROOT / "constraints.txt").exists()
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    missing = [name for line in sources for name in line.split() if not (ROOT / name).exists()]
    assert missing == []
    ignored = set((ROOT / ".dockerignore").read_text().split())
    assert not ignored & {name.removeprefix("./") for line in sources for name in line.split()}
