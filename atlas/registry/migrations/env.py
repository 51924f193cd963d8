"""What Alembic runs to walk the steps: it uses the connection that it is handed."""

from alembic import context

from atlas.registry.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
