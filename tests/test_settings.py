"""Settings: everything that can be wrong is one line; secrets are nowhere; the shipped files are complete."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from trading_bot.errors import ConfigurationError
from trading_bot.settings import (
    Settings,
    check_credentials,
    known_keys,
    load_settings,
    mask_passwords,
    places,
    redacted,
    schema,
)

ROOT = Path(__file__).parent.parent
BINANCE = "timeframe: 1h\nexchange: {name: binance, pair_whitelist: [BTC/USDT]"


def load(tmp_path: Path, text: str, environ: dict[str, str] | None = None, **overrides: Any) -> Settings:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return load_settings([path], overrides, environ or {})


def complaint(tmp_path: Path, text: str, environ: dict[str, str] | None = None, **overrides: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text, environ, **overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(tmp_path / "mine.yaml"), "FILE")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stoplos: -0.1", "FILE: stoplos: unknown key; did you mean 'stoploss'?"),
        ("exchange: {nam: x}", "FILE: exchange.nam: unknown key; did you mean 'exchange.name'?"),
        ("risk_per_trade: 0.1", "FILE: risk_per_trade: unknown key; did you mean 'risk.risk_per_trade'?"),
        ("zzz: 1", "FILE: zzz: unknown key; `trading-bot show-config` lists every key"),
        ("max_open_trades: many", "FILE: max_open_trades: found 'many', wanted a whole number"),
        ("max_open_trades: 2.5", "FILE: max_open_trades: found 2.5, wanted a whole number"),
        ("max_open_trades: true", "FILE: max_open_trades: found true, wanted a number"),
        ("max_open_trades:", "FILE: max_open_trades: found nothing, wanted a whole number"),
        ("trailing_stop: maybe", "FILE: trailing_stop: found 'maybe', wanted true or false"),
        ("stoploss: [1]", "FILE: stoploss: found [1], wanted a number"),
        ("stoploss: .nan", "FILE: stoploss: found nan, wanted a finite number"),
        ("stoploss: nan", "FILE: stoploss: found 'nan', wanted a finite number"),
        ("risk: {var_limit: .inf}", "FILE: risk.var_limit: found inf, wanted a finite number"),
        ("paper: {taker_fee: .nan}", "FILE: paper.taker_fee: found nan, wanted a finite number"),
        ("stoploss: 0.5", "FILE: stoploss should be a negative ratio above -1, such as -0.1, is 0.5"),
        ("risk: {max_exposure: 3}", "FILE: risk.max_exposure should be between 0 and 1, is 3"),
        ("stake_amount: lots", "FILE: stake_amount: found 'lots', wanted a number or 'unlimited'"),
        ("timeframe: 1x", "FILE: timeframe '1x' is not understood"),
        ("market: {candles_per_second: fast}", "FILE: market.candles_per_second: found 'fast', wanted a number or"),
        ("exchange: {pair_whitelist: BTC/USDT}", "FILE: exchange.pair_whitelist: found 'BTC/USDT', wanted a list"),
        ("exchange: {pair_whitelist: [BTCUSDT]}", "FILE: exchange.pair_whitelist wants symbols such as 'BTC/USDT'"),
        ("exchange: 3", "FILE: exchange: found 3, wanted a section of 'key: value' lines"),
        ("order_types: {entry: iceberg}", "FILE: order_types.entry: found 'iceberg', wanted 'market' or 'limit'"),
        ("minimal_roi: {60: lots}", "FILE: minimal_roi.60: found 'lots', wanted a number"),
        ("paper: {balances: {USDT: x}}", "FILE: paper.balances.USDT: found 'x', wanted a number"),
        ("logging: {level: LOUD}", "FILE: logging.level: found 'LOUD', wanted 'TRACE', 'DEBUG'"),
        ("service: {poll_seconds: 0}", "FILE: service.poll_seconds should be between 0.01 and 3600, is 0"),
        ("stoploss: -0.1\nstoploss: -0.2", "FILE:2: key 'stoploss' is given twice"),
        ("exchange:\n  name: local\n  name: binance", "FILE:3: key 'name' is given twice"),
        ("a: [1\nb: 2", "FILE:2: expected ',' or ']'"),
        ("a: b: c", "FILE:1: mapping values are not allowed here"),
        ("a: \x07", "FILE: cannot be read as YAML"),
        (f"max_open_trades: {'9' * 5000}", "FILE: cannot be read as YAML"),
        ("", "FILE: is empty; wanted 'key: value' lines"),
        ("# nothing\n", "FILE: is empty"),
        ("- 1\n- 2", "FILE: found [1, 2], wanted 'key: value' lines"),
        ("just words", "FILE: found 'just words', wanted 'key: value' lines"),
        ("true: 1", "FILE: True: found a key that is no text"),
        ("risk: &r\n  x: *r", "FILE: a section that contains itself"),
        ("!!python/object/apply:os.system ['true']", "FILE:1: could not determine a constructor"),
        (BINANCE.partition("\n")[0] + "\nexchange: {name: binance}", "FILE: exchange.pair_whitelist is empty"),
        ("exchange: {name: binance, pair_whitelist: [BTC/USDT]}", "timeframe is not set; with exchange.name 'binance'"),
        (BINANCE + "}", "live_trading_confirmed is false, but exchange.name 'binance'"),
        ("db_password_file: x", "db_password_file is set, but db_url has no user"),
        ("exchange: {credentials_file: no/such/file}", "exchange.credentials_file: cannot read no/such/file: No such"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    assert words in complaint(tmp_path, text)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none.yaml", "no such configuration file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigurationError, match=words):
            load_settings([path], environ={})
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigurationError, match="not UTF-8 text"):
        load_settings([binary], environ={})


def test_later_files_environment_and_command_line_win_in_this_order(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("max_open_trades: 1\nstoploss: -0.01\nrisk: {max_exposure: 0.1, var_limit: 0.1}\ntimeframe: 1h")
    two.write_text("stoploss: -0.02\nrisk: {max_exposure: 0.2}\ntimeframe: 2h")
    environ = {
        "TRADING_BOT__STOPLOSS": "-0.03",
        "TRADING_BOT__TIMEFRAME": "3h",
        "TRADING_BOT__PAPER__BALANCES__USDT": "0.1",
        "TRADING_BOT__EXCHANGE__PAIR_WHITELIST": "[BTC/USDT]",
        "TRADING_BOT_DATA": "not ours",
    }
    settings = load_settings([one, two], {"timeframe": "4h"}, environ)
    assert settings.max_open_trades == 1
    assert settings.stoploss == -0.03
    assert settings.timeframe == "4h"
    assert (settings.risk.max_exposure, settings.risk.var_limit) == (0.2, 0.1)
    assert settings.paper.balances == {"USDT": Decimal("0.1")}
    assert settings.exchange.pair_whitelist == ("BTC/USDT",)


def test_a_mistake_is_laid_at_the_right_door(tmp_path: Path) -> None:
    assert complaint(tmp_path, "stoploss: -0.1", {"TRADING_BOT__STOPLOSS": "x"}).startswith(
        "environment TRADING_BOT__STOPLOSS: stoploss: found 'x'"
    )
    assert "environment TRADING_BOT__RISC__VAR_LIMIT: risc: unknown key; did you mean 'risk'?" in complaint(
        tmp_path, "stoploss: -0.1", {"TRADING_BOT__RISC__VAR_LIMIT": "1"}
    )
    assert complaint(tmp_path, "stoploss: -0.1", timeframe="9x").startswith("command line: timeframe '9x'")


def test_yaml_as_people_write_it(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "minimal_roi: {0: 0.1, '60': 1e-2}\nstake_amount: 0.1\nrisk:\nsynthetic: {start: 2024-03-01}\n"
        "market: {candles_per_second: lockstep, candles: [a.csv, b.csv]}\npaper: {maker_fee: 0.00075}",
    )
    assert settings.minimal_roi == {"0": 0.1, "60": 0.01}
    assert settings.stake_amount == Decimal("0.1")  # not 0.1000000000000000055…
    assert settings.paper.maker_fee == Decimal("0.00075")
    assert settings.synthetic.start == "2024-03-01"  # not a date object
    assert settings.market.candles == ("a.csv", "b.csv")
    assert settings.market.candles_per_second == "lockstep"
    assert settings.risk == Settings().risk  # a section with every line commented out


@given(st.decimals(min_value="0.00000001", max_value="0.09", places=8))
def test_money_keeps_its_digits(fee: Decimal) -> None:
    settings = load_settings(overrides={"paper": {"maker_fee": float(fee)}}, environ={})
    assert settings.paper.maker_fee == fee


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(places(known_keys())[:20] + list(known_keys())), json_like, max_size=4))
def test_whatever_is_given_either_loads_or_is_one_line(values: dict[str, Any]) -> None:
    try:
        load_settings(overrides=values, environ={})
    except ConfigurationError as error:
        words = str(error)
    else:
        words = "it loads"
    assert "\n" not in words


# --- real money ------------------------------------------------------------------------------------------------------


def test_real_money_wants_a_word_and_a_key(tmp_path: Path) -> None:
    confirmed = load(tmp_path, BINANCE + "}\nlive_trading_confirmed: true")
    assert confirmed.is_live
    assert confirmed.mode == "live"
    with pytest.raises(ConfigurationError, match=r"exchange\.key is not set.*TRADING_BOT__EXCHANGE__KEY"):
        check_credentials(confirmed)
    keys = {"TRADING_BOT__EXCHANGE__KEY": "0123456789", "TRADING_BOT__EXCHANGE__SECRET": "yes"}
    check_credentials(load(tmp_path, BINANCE + "}\nlive_trading_confirmed: true", keys))
    for rest, mode in ((", sandbox: true}", "sandbox"), (", orders: paper}", "paper-venue")):
        settings = load(tmp_path, BINANCE + rest)
        assert not settings.is_live
        assert settings.mode == mode
    assert load(tmp_path, "max_open_trades: 1").mode == "paper"


# --- secrets ---------------------------------------------------------------------------------------------------------

CANARY = "c4n4ry-9f3b7e"


@pytest.mark.parametrize(
    "text",
    [
        f"exchange: {{key: {CANARY}}}",
        f"exchange: {{secret: {CANARY}}}",
        f"exchange: {{password: {CANARY}}}",
        f"exchange: {{ccxt_config: {{apiKey: {CANARY}}}}}",
        f"exchange: {{ccxt_config: {{options: {{token: {CANARY}}}}}}}",
        f"db_url: postgresql://me:{CANARY}@host/db",
        f"db_url: postgresql://me@host/db?password={CANARY}",
    ],
)
def test_a_secret_in_a_file_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    words = complaint(tmp_path, text)
    assert CANARY not in words
    assert "configuration file" in words
    assert "environment" in words


def test_secrets_are_masked_wherever_settings_are_shown(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials.yaml"
    credentials.write_text(f"key: {CANARY}1\nsecret: '{CANARY}2'\n")
    password = tmp_path / "db_password"
    password.write_text(f"{CANARY}3@:/\n")
    settings = load(
        tmp_path,
        f"exchange: {{credentials_file: {credentials}}}\ndb_url: postgresql://me@host/db\ndb_password_file: {password}",
        {
            "TRADING_BOT__EXCHANGE__PASSWORD": f"{CANARY}4",
            "TRADING_BOT__EXCHANGE__CCXT_CONFIG": f"{{uid: 1, walletPassphrase: {CANARY}5, "
            f"httpProxy: 'http://me:{CANARY}6@proxy'}}",
        },
    )
    assert settings.exchange.key is not None
    assert settings.exchange.key.get_secret_value() == f"{CANARY}1"
    assert settings.database_url == f"postgresql://me:{CANARY.replace('-', '%2D')}3%40%3A%2F@host/db"
    shown = redacted(settings)
    json.dumps(shown)
    assert CANARY not in str(shown)
    assert "%2D9f3b7e" not in str(shown)
    assert shown["db_url"] == "postgresql://me:***@host/db"
    assert shown["exchange"]["ccxt_config"]["uid"] == 1
    assert CANARY not in repr(settings.exchange.key)
    assert "9f3b7e" not in repr(settings).replace(repr(settings.exchange), "")


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"TRADING_BOT__EXCHANGE__KEY": CANARY}, "stoplos: 1"),
        ({"TRADING_BOT__EXCHANG__KEY": CANARY}, "stoploss: -0.1"),
        ({"TRADING_BOT__EXCHANGE__KEY__MORE": CANARY}, "stoploss: -0.1"),
        ({"TRADING_BOT__DB_URL": f"nonsense://me:{CANARY}@host"}, "stoploss: 1"),
        ({}, f"exchang: {{secret: {CANARY}}}"),
    ],
)
def test_a_secret_is_in_no_complaint(tmp_path: Path, environ: dict[str, str], text: str) -> None:
    assert CANARY not in complaint(tmp_path, text, environ)


def test_a_bad_credentials_file_is_not_quoted(tmp_path: Path) -> None:
    for content in (f"key: [{CANARY}", CANARY, f"secret: [{CANARY}]"):
        (tmp_path / "credentials.yaml").write_text(content)
        assert CANARY not in complaint(tmp_path, f"exchange: {{credentials_file: {tmp_path / 'credentials.yaml'}}}")


def test_passwords_in_urls_are_masked() -> None:
    assert mask_passwords("see postgresql+psycopg://me:pw@host/db?x=1") == "see postgresql+psycopg://me:***@host/db?x=1"
    assert mask_passwords("sqlite:///data/a.sqlite") == "sqlite:///data/a.sqlite"


# --- the shipped files -----------------------------------------------------------------------------------------------


def _paths(values: Any, known: Any, at: str = "") -> set[str]:
    if not isinstance(known, dict):
        return {at}
    return {path for key, value in values.items() for path in _paths(value, known[key], f"{at}.{key}".lstrip("."))}


def test_default_yaml_is_complete_and_holds_the_defaults() -> None:
    text = (ROOT / "config/default.yaml").read_text()
    leaves = _paths(redacted(Settings()), known_keys())
    assert _paths(yaml.safe_load(text), known_keys()) == leaves
    assert load_settings([ROOT / "config/default.yaml"], environ={}) == Settings()
    assert len(leaves) > 80
    uncommented = [line for line in text.splitlines() if ": " in line and "#" not in line]
    assert [
        line for line in uncommented if line.split(":")[0].strip() not in ("entry", "exit", "symbols", "timeframe")
    ] == []


def test_default_yaml_is_what_new_config_writes() -> None:
    shipped = ROOT / "trading_bot/cli/templates/default.yaml"
    assert shipped.read_text() == (ROOT / "config/default.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "overrides", "mode"),
    [
        ("default", {}, "paper"),
        ("paper", {}, "paper"),
        ("binance-paper", {}, "paper-venue"),
        ("testnet", {}, "sandbox"),
        ("live", {"live_trading_confirmed": True}, "live"),
    ],
)
def test_every_configuration_file_loads(name: str, overrides: dict[str, Any], mode: str) -> None:
    assert load_settings([ROOT / f"config/{name}.yaml"], overrides, {}).mode == mode


def test_docker_yaml_takes_its_password_from_a_secret(tmp_path: Path) -> None:
    secret = tmp_path / "postgres_password"
    secret.write_text("swordfish\n")
    files = [ROOT / "config/paper.yaml", ROOT / "config/docker.yaml"]
    settings = load_settings(files, {"db_password_file": str(secret)}, {})
    assert settings.database_url == "postgresql+psycopg://trading_bot:swordfish@postgres:5432/trading_bot"
    with pytest.raises(ConfigurationError, match="db_password_file: cannot read /run/secrets/postgres_password"):
        load_settings(files, environ={})


def test_no_file_is_left_out_and_live_is_refused() -> None:
    names = sorted(path.stem for path in (ROOT / "config").glob("*.yaml"))
    assert names == ["binance-paper", "default", "docker", "live", "paper", "testnet"]
    with pytest.raises(ConfigurationError, match="live_trading_confirmed is false"):
        load_settings([ROOT / "config/live.yaml"], environ={})


def test_the_schema_names_every_section() -> None:
    published = schema()
    assert set(published["properties"]) == {field.name for field in dataclasses.fields(Settings)}
    assert published["additionalProperties"] is False
