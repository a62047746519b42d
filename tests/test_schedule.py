from __future__ import annotations

from tests import schedule
from tests.conftest import ROOT


def test_every_module_of_the_schedule_exists() -> None:
    assert [name for name in (*schedule.FOLDERS, *schedule.LONGEST, *schedule.WAITING) if not (ROOT / name).exists()] == []
