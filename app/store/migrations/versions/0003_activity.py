"""Who was active when, the totals of closed windows, and which instance closes them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "activity",
        sa.Column("window", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("user", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("window", "user", name=op.f("pk_activity")),
    )
    op.create_table(
        "seen",
        sa.Column("user", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("moment", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("user", name=op.f("pk_seen")),
    )
    op.create_index(op.f("ix_seen_moment"), "seen", ["moment"])
    op.create_table(
        "taken",
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("half", sa.BigInteger(), nullable=False),
        sa.Column("moment", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_taken")),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("secret", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secrets")),
    )
    op.create_table(
        "elected",
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("role", name=op.f("pk_elected")),
    )
    op.create_table(
        "requests_per_user",
        sa.Column("bucket", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("users", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", name=op.f("pk_requests_per_user")),
    )
