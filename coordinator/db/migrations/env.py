"""How Alembic reaches the database: always through the connection that `migrate` holds open."""

from alembic import context

from coordinator.db.schema import Base

# Our connections begin transactions explicitly, so SQLite's DDL rolls back like PostgreSQL's.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
