"""Laws of our own books: every balance, position and profit is a fold of fills, exact and the same whoever folds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, localcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trading.stage import instrument
from trading_bot.domain.account import Position, Trade
from trading_bot.domain.orders import Fill, Order, OrderStatus, OrderType, Purpose, Side
from trading_bot.storage.types import Money
from trading_bot.trading.memory import Memory
from trading_bot.trading.portfolio import Account, apply, close, is_dust, replay

SYMBOLS = ("BTC/USDT", "ETH/USDT")
INSTRUMENTS = {symbol: instrument(symbol) for symbol in SYMBOLS}
GRAIN = Decimal("1E-12")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
START = {"USDT": Decimal("98765432109876543.123456789012345678"), "BTC": Decimal(2), "BNB": Decimal(7)}


@dataclass(frozen=True)
class Wish:
    """One order: a purchase of `lots`, or a sale of `part` of what is held; filled in `pieces`."""

    symbol: str
    buys: bool
    lots: int
    part: float
    pieces: tuple[int, ...]  # relative sizes of its fills
    ticks: int
    fee_in: str  # base, quote or BNB
    fee: Decimal  # rate
    cut: bool  # cancelled before its last piece


wishes = st.builds(
    Wish,
    symbol=st.sampled_from(SYMBOLS),
    buys=st.booleans(),
    lots=st.one_of(st.integers(1, 50), st.integers(1, 10**9)),
    part=st.sampled_from((1.0, 1.0, 0.999, 0.5, 0.01)),
    pieces=st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
    ticks=st.one_of(st.integers(1, 100), st.integers(1, 10**9)),
    fee_in=st.sampled_from(("base", "quote", "BNB")),
    fee=st.sampled_from((Decimal(0), Decimal("0.001"), Decimal("0.00075"), Decimal("0.000123456789"))),
    cut=st.booleans(),
)


def fills_of(wish: Wish, held: Decimal, number: int) -> list[tuple[Fill, Order]]:
    """The wish as executions, with its order as it stands at the end."""
    known = INSTRUMENTS[wish.symbol]
    lots = wish.lots if wish.buys else known.lots(held * Decimal(repr(wish.part)))
    shares = [lots * piece // sum(wish.pieces) for piece in wish.pieces]
    shares[-1] += lots - sum(shares)
    executed = [share for share in shares if share > 0]
    if wish.cut:
        executed = executed[:-1]
    currency = {"base": known.base, "quote": known.quote}.get(wish.fee_in, wish.fee_in)
    if currency == known.base and not wish.buys:
        currency = known.quote  # a sale of everything could not pay in what it sold
    filled = known.quantity(sum(executed))
    order = Order(
        f"o{number}", wish.symbol, Side.BUY if wish.buys else Side.SELL, OrderType.MARKET, known.quantity(lots),
        Purpose.ENTRY if wish.buys else Purpose.EXIT, number, BEGIN,
        status=OrderStatus.CANCELED if wish.cut else OrderStatus.FILLED, filled=filled,
        stop_price=Decimal(1) if wish.buys else None,
    )  # fmt: skip
    made = []
    for part, share in enumerate(executed):
        price, quantity = known.price(wish.ticks + part), known.quantity(share)
        worth = {known.base: quantity, known.quote: quantity * price}.get(currency, Decimal("0.01"))
        when = BEGIN + timedelta(seconds=10 * number + part)
        made.append(
            (
                Fill("venue", f"{number * 10 + part}", order.client_order_id, f"v{number}", wish.symbol, order.side,
                     price, quantity, (worth * wish.fee).quantize(Decimal("1E-18")), currency, when),
                order,
            )
        )  # fmt: skip
    return made


@dataclass
class Story:
    """Every account along a stream of wishes, and the trades as last told."""

    accounts: list[Account]
    history: list[tuple[Fill, Order]]
    trades: dict[str, Trade]


def tell(stream: Sequence[Wish]) -> Story:
    account = Account(balances=dict(START))
    story = Story([account], [], {})
    for number, wish in enumerate(stream, 1):
        pieces = fills_of(wish, account.position(wish.symbol).quantity, number)
        for index, (fill, order) in enumerate(pieces):
            booked = apply(account, fill, order, INSTRUMENTS[fill.symbol], ends_order=index == len(pieces) - 1)
            account = booked.account
            story.accounts.append(account)
            story.history.append((fill, order))
            if booked.trade is not None:
                story.trades[booked.trade.id] = booked.trade
    return story


def moved(fill: Fill, currency: str) -> Decimal:
    known = INSTRUMENTS[fill.symbol]
    sign = 1 if fill.side is Side.BUY else -1
    amount = Decimal(0)
    if currency == known.base:
        amount += sign * fill.quantity
    if currency == known.quote:
        amount -= sign * fill.quantity * fill.price
    return amount - (fill.fee if currency == fill.fee_currency else 0)


@settings(max_examples=300, deadline=None)
@given(st.lists(wishes, max_size=25))
def test_every_balance_is_its_start_and_the_sum_of_fills(stream: list[Wish]) -> None:
    story = tell(stream)
    with localcontext(Context(prec=200)):
        for currency in ("USDT", "BTC", "ETH", "BNB"):
            wanted = START.get(currency, Decimal(0)) + sum(moved(fill, currency) for fill, _ in story.history)
            assert story.accounts[-1].balances.get(currency, Decimal(0)) == wanted


@settings(max_examples=300, deadline=None)
@given(st.lists(wishes, max_size=25))
def test_positions_and_profits_reconcile_with_the_cash(stream: list[Wish]) -> None:
    """What was paid, less what is still held at cost, plus the profits, is what came back: to the last grain."""
    story = tell(stream)
    account = story.accounts[-1]
    with localcontext(Context(prec=200)):
        for symbol, known in INSTRUMENTS.items():
            fills = [fill for fill, _ in story.history if fill.symbol == symbol]
            sold_without_trade = sum(
                (f.quantity for f in fills if f.side is Side.SELL and f not in _in_trades(story)), Decimal(0)
            )
            held = account.position(symbol)
            own = START.get(known.base, Decimal(0))
            base_fees = sum((f.fee for f, _ in story.history if f.fee_currency == known.base), Decimal(0))
            assert held.quantity == account.balances.get(known.base, Decimal(0)) - own
            bought = sum(f.quantity for f in fills if f.side is Side.BUY)
            assert held.quantity == bought - sum(f.quantity for f in fills if f.side is Side.SELL) - base_fees
            if sold_without_trade:
                continue  # dust sold on its own belongs to no trade
            flow = sum((moved(f, known.quote) for f in fills), Decimal(0))
            profits = sum((t.close_profit_abs or 0 for t in story.trades.values() if t.symbol == symbol), Decimal(0))
            assert abs(flow - (profits - held.cost)) <= GRAIN * (len(fills) + 1)


def _in_trades(story: Story) -> list[Fill]:
    """Fills that belonged to a trade when they were booked."""
    inside, account = [], story.accounts[0]
    for (fill, _), after in zip(story.history, story.accounts[1:], strict=True):
        if fill.symbol in account.trades or fill.symbol in after.trades:
            inside.append(fill)
        account = after
    return inside


@settings(max_examples=300, deadline=None)
@given(st.lists(wishes, max_size=25))
def test_trades_hold_what_they_say(stream: list[Wish]) -> None:
    story = tell(stream)
    account = story.accounts[-1]
    assert account.trade_count == len(story.trades)
    for trade in story.trades.values():
        assert trade.is_open == (account.trades.get(trade.symbol) == trade)
        assert trade.is_open == (trade.close_date is None) == (trade.close_profit is None)
        assert trade.open_rate == pytest.approx(trade.stake_amount / trade.amount)
        if not trade.is_open:
            assert trade.close_profit_abs is not None
            ratio = trade.close_profit_abs / trade.stake_amount
            assert trade.close_profit == pytest.approx(ratio, abs=Decimal("1e-11"))
    for before, after, (fill, _) in zip(story.accounts, story.accounts[1:], story.history, strict=False):
        if fill.symbol in before.trades and fill.symbol not in after.trades:
            left = after.position(fill.symbol).quantity
            assert is_dust(left, fill.price, INSTRUMENTS[fill.symbol]), f"closed with {left} left"
        for symbol, trade in after.trades.items():
            assert after.positions[symbol].trade_id == trade.id


@settings(max_examples=300, deadline=None)
@given(st.lists(wishes, max_size=25))
def test_a_replay_is_the_same_as_every_step(stream: list[Wish]) -> None:
    story = tell(stream)
    assert replay(START, story.history, INSTRUMENTS) == story.accounts[-1]


@settings(max_examples=100, deadline=None)
@given(st.lists(wishes, min_size=1, max_size=10), st.integers(0, 9))
def test_no_account_is_changed_in_place(stream: list[Wish], at: int) -> None:
    story = tell(stream)
    kept = story.accounts[min(at, len(story.accounts) - 1)]
    copy = dataclasses.replace(
        kept, balances=dict(kept.balances), positions=dict(kept.positions), trades=dict(kept.trades)
    )
    tell(stream)
    for fill, order in story.history:
        apply(kept, fill, order, INSTRUMENTS[fill.symbol], ends_order=True)
    assert kept == copy


def test_the_cash_of_a_round_trip_by_hand() -> None:
    """2 bought at 100 with 0.1 % in the base coin, everything that can be sold sold at 110 with 0.1 % in quote."""
    known = INSTRUMENTS["BTC/USDT"]
    buy = Order("e", "BTC/USDT", Side.BUY, OrderType.MARKET, Decimal(2), Purpose.ENTRY, 0, BEGIN, reason="tag")
    sell = Order("x", "BTC/USDT", Side.SELL, OrderType.MARKET, Decimal("1.998"), Purpose.EXIT, 1, BEGIN, reason="roi")
    account = Account({"USDT": Decimal(1000)})
    bought = apply(
        account,
        Fill("v", "1", "e", "1", "BTC/USDT", Side.BUY, Decimal(100), Decimal(2), Decimal("0.002"), "BTC", BEGIN),
        buy, known, ends_order=True,
    )  # fmt: skip
    assert bought.account.balances == {"USDT": Decimal(800), "BTC": Decimal("1.998")}
    assert bought.trade is not None
    assert (bought.trade.fee_open, bought.trade.stake_amount) == (Decimal("0.2"), Decimal(200))
    sold = apply(
        bought.account,
        Fill("v", "2", "x", "2", "BTC/USDT", Side.SELL, Decimal(110), Decimal("1.998"), Decimal("0.21978"), "USDT",
             BEGIN),
        sell, known, ends_order=True,
    )  # fmt: skip
    trade = sold.trade
    assert trade is not None
    assert sold.account.balances == {"USDT": Decimal("1019.56022"), "BTC": Decimal(0)}
    assert (trade.close_profit_abs, trade.close_profit) == (Decimal("19.56022"), Decimal("0.0978011"))
    assert (trade.is_open, trade.close_rate, trade.exit_reason) == (False, Decimal(110), "roi")
    assert sold.account.equity("USDT", {}) == Decimal("1019.56022")


def test_a_fee_in_a_third_currency_costs_that_currency_alone() -> None:
    order = Order("e", "BTC/USDT", Side.BUY, OrderType.MARKET, Decimal(1), Purpose.ENTRY, 0, BEGIN)
    fill = Fill("v", "1", "e", "1", "BTC/USDT", Side.BUY, Decimal(100), Decimal(1), Decimal("0.3"), "BNB", BEGIN)
    booked = apply(Account({"USDT": Decimal(100), "BNB": Decimal(1)}), fill, order, INSTRUMENTS["BTC/USDT"],
                   ends_order=True)  # fmt: skip
    assert booked.account.balances == {"USDT": Decimal(0), "BNB": Decimal("0.7"), "BTC": Decimal(1)}
    assert booked.account.positions["BTC/USDT"].cost == 100
    assert booked.trade is not None
    assert booked.trade.fee_open == 0


@pytest.mark.parametrize(
    ("quantity", "price", "dust"),
    [("0", "100", True), ("0.000009", "1000000", True), ("0.04999", "100", True), ("0.05", "100", False),
     ("0.05", "99.99", True), ("0.00001", "500000", False)],
)  # fmt: skip
def test_dust_is_what_the_venue_would_not_take(quantity: str, price: str, dust: bool) -> None:
    assert is_dust(Decimal(quantity), Decimal(price), INSTRUMENTS["BTC/USDT"]) is dust


def test_dust_joins_the_next_trade_at_its_cost() -> None:
    known = INSTRUMENTS["BTC/USDT"]
    account = Account({"USDT": Decimal(1000)})
    buy = Order("e", "BTC/USDT", Side.BUY, OrderType.MARKET, Decimal(1), Purpose.ENTRY, 0, BEGIN)

    def fill(number: int, side: Side, quantity: str) -> Fill:
        return Fill("v", str(number), "", "", "BTC/USDT", side, Decimal(100), Decimal(quantity), Decimal(0), "USDT",
                    BEGIN)  # fmt: skip

    sell = dataclasses.replace(buy, client_order_id="x", side=Side.SELL)
    account = apply(account, fill(1, Side.BUY, "1"), buy, known, ends_order=True).account
    done = apply(account, fill(2, Side.SELL, "0.97"), sell, known, ends_order=True)
    assert done.trade is not None
    assert not done.trade.is_open
    assert done.account.position("BTC/USDT").quantity == Decimal("0.03")
    again = apply(done.account, fill(3, Side.BUY, "1"), buy, known, ends_order=True)
    assert again.trade is not None
    assert (again.trade.id, again.trade.amount) == ("T2", Decimal(1))
    assert again.account.position("BTC/USDT").cost == Decimal(103)


def test_a_trade_can_end_unsold() -> None:
    order = Order("e", "BTC/USDT", Side.BUY, OrderType.MARKET, Decimal("0.04"), Purpose.ENTRY, 0, BEGIN)
    fill = Fill("v", "1", "e", "1", "BTC/USDT", Side.BUY, Decimal(100), Decimal("0.04"), Decimal(0), "USDT", BEGIN)
    booked = apply(Account({"USDT": Decimal(100)}), fill, order, INSTRUMENTS["BTC/USDT"], ends_order=True)
    assert booked.trade is not None
    account, closed = close(booked.account, booked.trade, BEGIN)
    assert not account.trades
    assert (closed.is_open, closed.close_profit, closed.close_amount) == (False, Decimal(0), Decimal(0))
    assert account.position("BTC/USDT") == dataclasses.replace(booked.account.position("BTC/USDT"), trade_id=None)


def test_equity_takes_a_position_without_a_price_at_its_cost() -> None:
    order = Order("e", "BTC/USDT", Side.BUY, OrderType.MARKET, Decimal(1), Purpose.ENTRY, 0, BEGIN)
    fill = Fill("v", "1", "e", "1", "BTC/USDT", Side.BUY, Decimal(100), Decimal(1), Decimal(0), "USDT", BEGIN)
    account = apply(Account({"USDT": Decimal(150)}), fill, order, INSTRUMENTS["BTC/USDT"], ends_order=True).account
    assert account.equity("USDT", {}) == 150
    assert account.equity("USDT", {"BTC/USDT": Decimal(120)}) == 170


def test_an_equity_of_many_decimals_can_be_written() -> None:
    """Prices and lots of eight decimals and a fee of three: a position's worth has nineteen, one more than is kept."""
    held = Position("BTC/USDT", quantity=Decimal("0.12345678001"), cost=Decimal("10"))
    account = Account(balances={"USDT": Decimal("10000.00000001")}, positions={"BTC/USDT": held})
    memory = Memory(quote="USDT", prices={"BTC/USDT": Decimal("100.00000001")}, time=0)
    equity = account.equity("USDT", memory.prices)
    assert -int(equity.as_tuple().exponent) > 18
    memory.risk = dataclasses.replace(memory.risk, equity=equity)
    point = memory.equity_point(account, "run")
    assert -int(point.equity.as_tuple().exponent) <= 12
    assert abs(point.equity - equity) < Decimal("1E-12")
    Money.checked(point.equity)
