"""What alembic runs: the migrations, on the connection and in the transaction it is given."""

from alembic import context

from trading_bot.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
