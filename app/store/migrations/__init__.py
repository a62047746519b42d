"""The history of the schema; `alembic` reads it."""
