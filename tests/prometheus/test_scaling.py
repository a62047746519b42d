"""What docs/scaling.md says to write into Prometheus' configuration is taken by promtool."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from monitoring.prometheus import Configuration
from monitoring.prometheus.rules import rules
from monitoring.prometheus.scrape_config import scraping
from tests.conftest import ROOT
from tests.prometheus.executables import program

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "scaling.md").read_text()
BLOCKS: list[dict[str, Any]] = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: next(iter(block)))
def test_every_block_of_the_page_is_taken(block: dict[str, Any], tmp_path: Path) -> None:
    agent = "remote_write" in block
    configured = block
    if not agent:
        configured = scraping(Configuration())
        configured["scrape_configs"][0].update(block)
        del configured["rule_files"]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configured))
    command = [program("promtool"), "check", "config", *(["--agent"] if agent else []), "prometheus.yml"]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_page_has_a_block_of_each_kind_and_counts_the_rules() -> None:
    assert [next(iter(block)) for block in BLOCKS] == ["metric_relabel_configs", "relabel_configs", "global"]
    assert f"{sum(len(group['rules']) for group in rules(Configuration())['groups'])} rules give as many series" in " ".join(PAGE.split())
