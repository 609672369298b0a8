"""Versions of trained models, and what runs and decisions know of them. `Words` also stands for the choices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from trading_bot.storage.types import JsonMapping, UtcDateTime, Whole, Words

revision = "r0002_models"
down_revision = "r0001_initial"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("id", Words(), nullable=False),
        sa.Column("strategy", Words(), nullable=False),
        sa.Column("status", Words(), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.Column("parent", Words(), nullable=True),
        sa.Column("sha256", Words(), nullable=False),
        sa.Column("data_hash", Words(), nullable=False),
        sa.Column("features", JsonMapping(), nullable=False),
        sa.Column("config", JsonMapping(), nullable=False),
        sa.Column("scores", JsonMapping(), nullable=False),
        sa.Column("activated_at_bar", Whole(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
    )
    op.create_index("ix_models_created_id", "models", ["created", "id"])
    op.create_index("ix_models_strategy_status", "models", ["strategy", "status"])
    # earlier runs and decisions have none; a constant default rewrites no row, however many there are
    op.add_column("runs", sa.Column("models", JsonMapping(), nullable=False, server_default=sa.text("'{}'")))
    op.add_column("decisions", sa.Column("notes", JsonMapping(), nullable=False, server_default=sa.text("'{}'")))


def downgrade() -> None:
    op.drop_column("decisions", "notes")
    op.drop_column("runs", "models")
    op.drop_table("models")
