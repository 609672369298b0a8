"""What came of training models anew, and the champions that only the user may replace."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from trading_bot.storage.types import Fraction, JsonMapping, Whole, Words

revision = "r0003_trainings"
down_revision = "r0002_models"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "trainings",
        sa.Column("strategy", Words(), nullable=False),
        sa.Column("time", Whole(), nullable=False),
        sa.Column("outcome", Words(), nullable=False),
        sa.Column("trigger", Words(), nullable=False),
        sa.Column("reason", Words(), nullable=False),
        sa.Column("model", Words(), nullable=True),
        sa.Column("scores", JsonMapping(), nullable=False),
        sa.Column("seconds", Fraction(), nullable=False),
        sa.Column("run_id", Words(), nullable=False),
        sa.PrimaryKeyConstraint("strategy", "time", "outcome", name="pk_trainings"),
    )
    op.create_index("ix_trainings_strategy_time", "trainings", ["strategy", "time"])
    op.create_index("ix_trainings_time_strategy_outcome", "trainings", ["time", "strategy", "outcome"])
    op.add_column("models", sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("models", "pinned")
    op.drop_table("trainings")
