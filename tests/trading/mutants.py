"""Order desks with one mistake each. A harness that lets one of them pass is not worth its time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest

from trading_bot.domain.orders import Fill, Order, OrderReport, OrderStatus, Side, SubmitOutcome, Unclear
from trading_bot.trading import order_protocol, portfolio, recovery
from trading_bot.trading.order_protocol import OrderDesk

Patch = Callable[[pytest.MonkeyPatch], None]
_write, _book, _send = OrderDesk._write, OrderDesk.book, OrderDesk.send


def resend_when_unclear(patch: pytest.MonkeyPatch) -> None:
    """The same order once more, at once."""

    def send(self: OrderDesk, order: Order) -> Order:
        submit = self.broker.submit

        def stubborn(sent: Order) -> SubmitOutcome:
            outcome = submit(sent)
            return submit(sent) if isinstance(outcome, Unclear) else outcome

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(self.broker, "submit", stubborn, raising=False)
            return _send(self, order)

    patch.setattr(OrderDesk, "send", send)


def resend_under_a_new_id(patch: pytest.MonkeyPatch) -> None:
    """An unclear answer is taken for a loss, and the wish is sent again as the next attempt."""

    def send(self: OrderDesk, order: Order) -> Order:
        sent = _send(self, order)
        if sent.status is not OrderStatus.UNKNOWN or sent.attempt > 3:
            return sent
        again = dataclasses.replace(
            order, client_order_id=f"{order.client_order_id[:-1]}{order.attempt + 1}", attempt=order.attempt + 1
        )
        with self.store.transaction() as tx:
            self.intend(tx, again)
        return send(self, again)

    patch.setattr(OrderDesk, "send", send)


def fills_without_keys(patch: pytest.MonkeyPatch) -> None:
    """Whatever the venue tells is booked, told before or not."""

    class Forgetful:
        def __init__(self, tx: Any) -> None:
            self._tx = tx

        def add(self, record: object) -> bool:
            return bool(self._tx.add(record)) or isinstance(record, Fill)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._tx, name)

    def book(self: OrderDesk, order: Order, report: OrderReport, fills: Sequence[Fill]) -> Order:
        store = self.store

        class Careless:
            def transaction(self) -> Any:
                inner = store.transaction()

                class Entered:
                    def __enter__(self) -> Any:
                        return Forgetful(inner.__enter__())

                    def __exit__(self, *problem: Any) -> Any:
                        return inner.__exit__(*problem)

                return Entered()

            def __getattr__(self, name: str) -> Any:
                return getattr(store, name)

        self.store = Careless()
        try:
            return _book(self, order, report, fills)
        finally:
            self.store = store

    patch.setattr(OrderDesk, "book", book)


def sent_after_submit(patch: pytest.MonkeyPatch) -> None:
    """The mark that an order may be on the wire is made when the answer is there."""

    def write(self: OrderDesk, order: Order) -> Order:
        if order.status is OrderStatus.SENT:
            self._keep(order)
            return order
        return _write(self, order)

    patch.setattr(OrderDesk, "_write", write)


def not_found_is_rejected(patch: pytest.MonkeyPatch) -> None:
    """The first "not found" is believed."""

    def not_found(self: OrderDesk, order: Order) -> Order:
        if order.status in (OrderStatus.OPEN, OrderStatus.ABANDONED):
            return order
        return self._write(order.moved(OrderStatus.REJECTED, message="not found"))

    patch.setattr(OrderDesk, "_not_found", not_found)


def unknown_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """UNKNOWN is neither written down nor kept."""

    def write(self: OrderDesk, order: Order) -> Order:
        if order.status is OrderStatus.UNKNOWN:
            self.live.pop(order.client_order_id, None)
            return order
        return _write(self, order)

    patch.setattr(OrderDesk, "_write", write)


def position_from_the_order(patch: pytest.MonkeyPatch) -> None:
    """The first fill is taken for the whole order."""
    apply = portfolio.apply

    def whole(account: Any, fill: Fill, order: Order, *rest: Any, **named: Any) -> Any:
        return apply(account, dataclasses.replace(fill, quantity=order.quantity), order, *rest, **named)

    patch.setattr(order_protocol, "apply", whole)


def ended_before_its_fills(patch: pytest.MonkeyPatch) -> None:
    """An order is over when the venue says so, though fills are still to come."""
    patch.setattr(
        order_protocol, "_moved_by", lambda order, report: (
            order if report.status is order.status else order.moved(report.status)
        ),
    )  # fmt: skip


def cancelled_means_nothing_filled(patch: pytest.MonkeyPatch) -> None:
    """Fills of an order that was cancelled are not asked for."""

    def book(self: OrderDesk, order: Order, report: OrderReport, fills: Sequence[Fill]) -> Order:
        if report.status is OrderStatus.CANCELED:
            report = dataclasses.replace(report, filled=order.filled)
        return _book(self, order, report, fills)

    patch.setattr(OrderDesk, "book", book)


def exit_beside_an_exit(patch: pytest.MonkeyPatch) -> None:
    """A second sell goes out while the first may still be executed, for as much as was once held."""

    def send(self: OrderDesk, order: Order) -> Order:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(OrderDesk, "_exits", lambda self, order: [])
            inner.setattr(OrderDesk, "_clear_way", lambda self, order: None)
            return _send(self, order)

    patch.setattr(OrderDesk, "send", send)


def crash_forgets_the_wire(patch: pytest.MonkeyPatch) -> None:
    """A new life looks only after orders the venue had confirmed."""
    patch.setattr(recovery, "LIVE", frozenset({OrderStatus.OPEN}))


def patience_of_one_look(patch: pytest.MonkeyPatch) -> None:
    """Given up after one healthy "not found", and the watch over what was given up is not kept."""

    def not_found(self: OrderDesk, order: Order) -> Order:
        if order.status in (OrderStatus.OPEN, OrderStatus.ABANDONED):
            return order
        return self.abandon(order, "not found")

    patch.setattr(OrderDesk, "_not_found", not_found)
    patch.setattr(OrderDesk, "watch_abandoned", lambda self: None)


def sells_more_than_held(patch: pytest.MonkeyPatch) -> None:
    """An exit is rounded up to the next lot."""

    def send(self: OrderDesk, order: Order) -> Order:
        if order.side is Side.SELL:
            held = self.account.position(order.symbol)
            more = dataclasses.replace(held, quantity=held.quantity + Decimal("0.00001"))
            self.account = dataclasses.replace(self.account, positions={**self.account.positions, order.symbol: more})
        return _send(self, order)

    patch.setattr(OrderDesk, "send", send)


MUTANTS: tuple[Patch, ...] = (
    resend_when_unclear,
    resend_under_a_new_id,
    fills_without_keys,
    sent_after_submit,
    not_found_is_rejected,
    unknown_is_forgotten,
    position_from_the_order,
    ended_before_its_fills,
    cancelled_means_nothing_filled,
    exit_beside_an_exit,
    crash_forgets_the_wire,
    patience_of_one_look,
    sells_more_than_held,
)
