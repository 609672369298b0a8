"""The tables of the first release. `Words` also stands for the choices: both are text."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from trading_bot.storage.types import Fraction, JsonMapping, Money, UtcDateTime, Whole, Words

revision = "r0001_initial"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "candle_gaps",
        sa.Column("pair", Words(), nullable=False),
        sa.Column("timeframe", Words(), nullable=False),
        sa.Column("start", Whole(), nullable=False),
        sa.Column("end", Whole(), nullable=False),
        sa.PrimaryKeyConstraint("pair", "timeframe", "start", name="pk_candle_gaps"),
    )
    op.create_table(
        "commands",
        sa.Column("id", Words(), nullable=False),
        sa.Column("name", Words(), nullable=False),
        sa.Column("given", UtcDateTime(), nullable=False),
        sa.Column("handled", UtcDateTime(), nullable=True),
        sa.Column("answer", Words(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_commands"),
    )
    op.create_index("ix_commands_given_id", "commands", ["given", "id"])
    op.create_index("ix_commands_handled_given_id", "commands", ["handled", "given", "id"])
    op.create_table(
        "decisions",
        sa.Column("pair", Words(), nullable=False),
        sa.Column("time", Whole(), nullable=False),
        sa.Column("regime", Words(), nullable=False),
        sa.Column("weights", JsonMapping(), nullable=False),
        sa.Column("signals", JsonMapping(), nullable=False),
        sa.Column("score", Fraction(), nullable=False),
        sa.Column("side", Whole(), nullable=False),
        sa.Column("outcome", Words(), nullable=False),
        sa.Column("reason", Words(), nullable=False),
        sa.Column("model_versions", JsonMapping(), nullable=False),
        sa.Column("client_order_id", Words(), nullable=True),
        sa.Column("run_id", Words(), nullable=False),
        sa.PrimaryKeyConstraint("pair", "time", name="pk_decisions"),
    )
    op.create_index("ix_decisions_client_order_id", "decisions", ["client_order_id"])
    op.create_index("ix_decisions_time_pair", "decisions", ["time", "pair"])
    op.create_table(
        "equity",
        sa.Column("time", Whole(), nullable=False),
        sa.Column("equity", Money(), nullable=False),
        sa.Column("cash", Money(), nullable=False),
        sa.Column("hold_equity", Money(), nullable=False),
        sa.Column("drawdown", Fraction(), nullable=False),
        sa.Column("open_trades", Whole(), nullable=False),
        sa.Column("run_id", Words(), nullable=False),
        sa.PrimaryKeyConstraint("time", name="pk_equity"),
    )
    op.create_table(
        "fills",
        sa.Column("venue", Words(), nullable=False),
        sa.Column("trade_id", Words(), nullable=False),
        sa.Column("client_order_id", Words(), nullable=False),
        sa.Column("exchange_order_id", Words(), nullable=False),
        sa.Column("pair", Words(), nullable=False),
        sa.Column("side", Words(), nullable=False),
        sa.Column("price", Money(), nullable=False),
        sa.Column("amount", Money(), nullable=False),
        sa.Column("fee", Money(), nullable=False),
        sa.Column("fee_currency", Words(), nullable=False),
        sa.Column("date", UtcDateTime(), nullable=False),
        sa.Column("is_maker", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("venue", "pair", "trade_id", name="pk_fills"),
    )
    op.create_index("ix_fills_client_order_id_pair_date", "fills", ["client_order_id", "pair", "date"])
    op.create_index("ix_fills_date", "fills", ["date"])
    op.create_index("ix_fills_pair_date", "fills", ["pair", "date"])
    op.create_table(
        "job_runs",
        sa.Column("job", Words(), nullable=False),
        sa.Column("slot", Whole(), nullable=False),
        sa.Column("date", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("job", "slot", name="pk_job_runs"),
    )
    op.create_index("ix_job_runs_slot_job", "job_runs", ["slot", "job"])
    op.create_table(
        "orders",
        sa.Column("client_order_id", Words(), nullable=False),
        sa.Column("pair", Words(), nullable=False),
        sa.Column("side", Words(), nullable=False),
        sa.Column("order_type", Words(), nullable=False),
        sa.Column("amount", Money(), nullable=False),
        sa.Column("purpose", Words(), nullable=False),
        sa.Column("bar_time", Whole(), nullable=False),
        sa.Column("order_date", UtcDateTime(), nullable=False),
        sa.Column("reason", Words(), nullable=False),
        sa.Column("price", Money(), nullable=True),
        sa.Column("time_in_force", Words(), nullable=False),
        sa.Column("attempt", Whole(), nullable=False),
        sa.Column("status", Words(), nullable=False),
        sa.Column("filled", Money(), nullable=False),
        sa.Column("cost", Money(), nullable=False),
        sa.Column("exchange_order_id", Words(), nullable=True),
        sa.Column("sent_date", UtcDateTime(), nullable=True),
        sa.Column("order_filled_date", UtcDateTime(), nullable=True),
        sa.Column("not_found", Whole(), nullable=False),
        sa.Column("message", Words(), nullable=False),
        sa.Column("stop_price", Money(), nullable=True),
        sa.Column("run_id", Words(), nullable=False),
        sa.PrimaryKeyConstraint("client_order_id", name="pk_orders"),
    )
    op.create_index("ix_orders_order_date_client_order_id", "orders", ["order_date", "client_order_id"])
    op.create_index("ix_orders_pair_order_date", "orders", ["pair", "order_date"])
    op.create_index("ix_orders_status_order_date", "orders", ["status", "order_date"])
    op.create_table(
        "regimes",
        sa.Column("pair", Words(), nullable=False),
        sa.Column("time", Whole(), nullable=False),
        sa.Column("old", Words(), nullable=False),
        sa.Column("new", Words(), nullable=False),
        sa.Column("confidence", Fraction(), nullable=False),
        sa.Column("features", JsonMapping(), nullable=False),
        sa.Column("after_bars", Whole(), nullable=False),
        sa.Column("run_id", Words(), nullable=False),
        sa.PrimaryKeyConstraint("pair", "time", name="pk_regimes"),
    )
    op.create_index("ix_regimes_time_pair", "regimes", ["time", "pair"])
    op.create_table(
        "runs",
        sa.Column("id", Words(), nullable=False),
        sa.Column("mode", Words(), nullable=False),
        sa.Column("started", UtcDateTime(), nullable=False),
        sa.Column("configuration", JsonMapping(), nullable=False),
        sa.Column("ended", UtcDateTime(), nullable=True),
        sa.Column("end_reason", Words(), nullable=False),
        sa.Column("candles_hash", Words(), nullable=False),
        sa.Column("version", Words(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_started_id", "runs", ["started", "id"])
    op.create_table(
        "snapshots",
        sa.Column("name", Words(), nullable=False),
        sa.Column("value", JsonMapping(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_snapshots"),
    )
    op.create_table(
        "trade_shares",
        sa.Column("trade_id", Words(), nullable=False),
        sa.Column("strategy", Words(), nullable=False),
        sa.Column("share", Fraction(), nullable=False),
        sa.PrimaryKeyConstraint("trade_id", "strategy", name="pk_trade_shares"),
    )
    op.create_table(
        "trades",
        sa.Column("id", Words(), nullable=False),
        sa.Column("exchange", Words(), nullable=False),
        sa.Column("pair", Words(), nullable=False),
        sa.Column("strategy", Words(), nullable=False),
        sa.Column("book", Words(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("open_date", UtcDateTime(), nullable=False),
        sa.Column("open_rate", Money(), nullable=False),
        sa.Column("amount", Money(), nullable=False),
        sa.Column("stake_amount", Money(), nullable=False),
        sa.Column("fee_open", Money(), nullable=False),
        sa.Column("fee_close", Money(), nullable=False),
        sa.Column("close_date", UtcDateTime(), nullable=True),
        sa.Column("close_rate", Money(), nullable=True),
        sa.Column("close_amount", Money(), nullable=False),
        sa.Column("close_profit", Money(), nullable=True),
        sa.Column("close_profit_abs", Money(), nullable=True),
        sa.Column("stop_loss", Money(), nullable=True),
        sa.Column("initial_stop_loss", Money(), nullable=True),
        sa.Column("max_rate", Money(), nullable=True),
        sa.Column("enter_tag", Words(), nullable=False),
        sa.Column("exit_reason", Words(), nullable=False),
        sa.Column("regime", Words(), nullable=False),
        sa.Column("entry_order_id", Words(), nullable=False),
        sa.Column("run_id", Words(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_trades"),
    )
    op.create_index(
        "ix_trades_book_is_open_close_date_open_date_id", "trades", ["book", "is_open", "close_date", "open_date", "id"]
    )
    op.create_index(
        "ix_trades_book_strategy_is_open_close_date_open_date_id",
        "trades",
        ["book", "strategy", "is_open", "close_date", "open_date", "id"],
    )
    op.create_index("ix_trades_is_open_close_date_open_date_id", "trades", ["is_open", "close_date", "open_date", "id"])
    op.create_table(
        "venue_balances",
        sa.Column("currency", Words(), nullable=False),
        sa.Column("free", Money(), nullable=False),
        sa.Column("used", Money(), nullable=False),
        sa.PrimaryKeyConstraint("currency", name="pk_venue_balances"),
    )
    op.create_table(
        "venue_fills",
        sa.Column("trade_id", Whole(), nullable=False),
        sa.Column("order_id", Whole(), nullable=False),
        sa.Column("client_order_id", Words(), nullable=False),
        sa.Column("pair", Words(), nullable=False),
        sa.Column("side", Words(), nullable=False),
        sa.Column("price", Money(), nullable=False),
        sa.Column("amount", Money(), nullable=False),
        sa.Column("fee", Money(), nullable=False),
        sa.Column("fee_currency", Words(), nullable=False),
        sa.Column("is_maker", sa.Boolean(), nullable=False),
        sa.Column("time", Whole(), nullable=False),
        sa.PrimaryKeyConstraint("pair", "trade_id", name="pk_venue_fills"),
    )
    op.create_index("ix_venue_fills_order_id", "venue_fills", ["order_id"])
    op.create_index("ix_venue_fills_pair_time_trade_id", "venue_fills", ["pair", "time", "trade_id"])
    op.create_index("ix_venue_fills_time_trade_id_pair", "venue_fills", ["time", "trade_id", "pair"])
    op.create_table(
        "venue_orders",
        sa.Column("order_id", Whole(), nullable=False),
        sa.Column("client_order_id", Words(), nullable=False),
        sa.Column("pair", Words(), nullable=False),
        sa.Column("side", Words(), nullable=False),
        sa.Column("order_type", Words(), nullable=False),
        sa.Column("time_in_force", Words(), nullable=False),
        sa.Column("amount", Money(), nullable=False),
        sa.Column("price", Money(), nullable=True),
        sa.Column("status", Words(), nullable=False),
        sa.Column("filled", Money(), nullable=False),
        sa.Column("cost", Money(), nullable=False),
        sa.Column("reserved", Money(), nullable=False),
        sa.Column("queue_ahead", Whole(), nullable=False),
        sa.Column("time", Whole(), nullable=False),
        sa.Column("update_time", Whole(), nullable=False),
        sa.PrimaryKeyConstraint("order_id", name="pk_venue_orders"),
    )
    op.create_index(
        "ix_venue_orders_client_order_id_pair_order_id", "venue_orders", ["client_order_id", "pair", "order_id"]
    )
    op.create_index("ix_venue_orders_pair_order_id", "venue_orders", ["pair", "order_id"])
    op.create_index("ix_venue_orders_status_order_id", "venue_orders", ["status", "order_id"])
    op.create_table(
        "weights",
        sa.Column("pair", Words(), nullable=False),
        sa.Column("time", Whole(), nullable=False),
        sa.Column("old", JsonMapping(), nullable=False),
        sa.Column("new", JsonMapping(), nullable=False),
        sa.Column("because", Words(), nullable=False),
        sa.Column("run_id", Words(), nullable=False),
        sa.PrimaryKeyConstraint("pair", "time", name="pk_weights"),
    )
    op.create_index("ix_weights_time_pair", "weights", ["time", "pair"])


def downgrade() -> None:
    op.drop_table("weights")
    op.drop_table("venue_orders")
    op.drop_table("venue_fills")
    op.drop_table("venue_balances")
    op.drop_table("trades")
    op.drop_table("trade_shares")
    op.drop_table("snapshots")
    op.drop_table("runs")
    op.drop_table("regimes")
    op.drop_table("orders")
    op.drop_table("job_runs")
    op.drop_table("fills")
    op.drop_table("equity")
    op.drop_table("decisions")
    op.drop_table("commands")
    op.drop_table("candle_gaps")
