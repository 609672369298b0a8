"""Money and dates through a real column, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.storage.records import record
from trading_bot.domain.journal import Command, Snapshot
from trading_bot.domain.venue import VenueBalance
from trading_bot.errors import StorageError
from trading_bot.storage.sql_store import SqlStore
from trading_bot.storage.store import open_store
from trading_bot.storage.tables import metadata
from trading_bot.storage.types import Fraction, Money, canonical

MONEY = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20) + 1, max_value=10**20 - 1, places=18)
ANY_MONEY = MONEY | st.decimals(allow_nan=False, allow_infinity=False, min_value=-1000, max_value=1000, places=2)
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def store(database_url: str) -> Iterator[SqlStore]:
    made = open_store(database_url)
    yield made
    made.close()


@MANY
@given(free=ANY_MONEY, used=ANY_MONEY)
def test_money_comes_back_to_the_last_digit(store: SqlStore, free: Decimal, used: Decimal) -> None:
    with store.transaction() as tx:
        tx.update(VenueBalance("USDT", free, used))
        assert tx.find(VenueBalance, free=free) == [VenueBalance("USDT", free, used)]
    with store.reading() as tx:
        kept = tx.get(VenueBalance, "USDT")
    assert kept == VenueBalance("USDT", free, used)
    assert kept.free.as_tuple() == Decimal(canonical(free)).as_tuple()  # the same digits from either database


@MANY
@given(moment=st.datetimes(timezones=st.integers(-14, 14).map(lambda h: timezone(timedelta(hours=h)))))
def test_moments_come_back_to_the_microsecond(store: SqlStore, moment: datetime) -> None:
    if not 2 < moment.year < 9998:
        return  # its UTC may lie outside of what a datetime can say
    with store.transaction() as tx:
        tx.update(record(Command, id="one", given=moment))
    with store.reading() as tx:
        kept = tx.get(Command, "one")
    assert kept is not None
    assert kept.given == moment
    assert kept.given.tzinfo is UTC


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(), inside, max_size=4),
    max_leaves=12,
)


@MANY
@given(value=st.dictionaries(st.text(), JSON, max_size=4))
def test_snapshots_come_back_bit_for_bit(store: SqlStore, value: dict[str, object]) -> None:
    with store.transaction() as tx:
        tx.update(Snapshot("state", value))
    with store.reading() as tx:
        kept = tx.get(Snapshot, "state")
    assert kept is not None
    assert repr(sorted(kept.value.items())) == repr(sorted(value.items())) or kept.value == value


@pytest.mark.parametrize(
    ("given", "kept"),
    [("0E+5", "0"), ("-0", "0"), ("1E+3", "1000"), ("1.500", "1.5"), ("1E-18", "0.000000000000000001"), ("-7.0", "-7")],
)
def test_canonical_digits(given: str, kept: str) -> None:
    assert Money.checked(Decimal(given)) == kept


@pytest.mark.parametrize("digits", ["1E-19", "1.0000000000000000001", "123456789012345678901", "1E+500"])
def test_money_that_would_be_rounded_is_refused(digits: str) -> None:
    with pytest.raises(StorageError, match="more than"):
        Money.checked(Decimal(digits))


def test_no_money_in_a_float_column() -> None:
    floats = {
        f"{table.name}.{column.name}"
        for table in metadata.tables.values()
        for column in table.columns
        if column.type.python_type is float or isinstance(column.type, Fraction)
    }
    assert floats == {
        "decisions.score",
        "equity.drawdown",
        "regimes.confidence",
        "trade_shares.share",
        "trainings.seconds",
    }
    money = [c for t in metadata.tables.values() for c in t.columns if isinstance(c.type, Money)]
    assert len(money) > 25
