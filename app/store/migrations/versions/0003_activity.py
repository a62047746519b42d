"""Who was active when, and the totals of closed windows."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both tables, and when a user was seen last."""
    op.add_column("users", sa.Column("seen", sa.Double(), nullable=True))
    op.create_index(op.f("ix_users_seen"), "users", ["seen"])
    op.create_table(
        "activity",
        sa.Column("window", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_activity_user_id")),
        sa.PrimaryKeyConstraint("window", "user_id", name=op.f("pk_activity")),
    )
    op.create_table(
        "requests_per_user",
        sa.Column("bucket", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("users", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", name=op.f("pk_requests_per_user")),
    )
