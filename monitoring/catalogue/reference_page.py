"""The documentation's table of families: `python -m monitoring.catalogue.reference_page > docs/metrics.md`."""

from __future__ import annotations

import sys

from .all import FAMILIES, Family

_HEAD = """# The families of the service

Made by `python -m monitoring.catalogue.reference_page` from the declarations in `monitoring/catalogue/`; do not edit.
What the kit says about itself (`multiproc_*`) and about its processes (`process_*`, `python_*`)
is in [how-the-files-work.md](how-the-files-work.md) and [differences.md](differences.md).

| family | type | labels | buckets | unit | under many workers | help |
|---|---|---|---|---|---|---|
"""
_UNITS = {"seconds", "bytes", "ratio", "celsius", "watts", "dollars"}


def unit(family: Family) -> str:
    """Give the unit that the family's name says; empty for a number of things."""
    words = family.name.removesuffix("_total").split("_")
    if words[-2:] == ["timestamp", "seconds"]:
        return "seconds since 1970"
    return words[-1] if words[-1] in _UNITS else ""


def table() -> str:
    """Give the page: one row per family, in order of name."""
    return _HEAD + "".join(map(_row, sorted(FAMILIES, key=lambda family: family.name)))


def _row(family: Family) -> str:
    cells = (
        f"`{family.name}`",
        family.kind,
        ", ".join(family.labels),
        " ".join(f"{bound:g}" for bound in family.buckets),
        unit(family),
        family.rule.value,
        family.help,
    )
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    sys.stdout.write(table())
