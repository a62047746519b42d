"""The database: SQLite in one file, or PostgreSQL; the same statements on both.

Nothing here imports SQLAlchemy before it is needed, which costs a process half a second: `place`, `errors` and `startup` never do, and
`database` does with its first session.
"""
