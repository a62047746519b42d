"""The service keeps what its OpenAPI document says: schemathesis asks the live one, with valid and with hostile requests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.app.schemathesis_run import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server_process import Served


def test_schemathesis_finds_nothing(served: Served, tmp_path: Path) -> None:
    ran = run(f"http://127.0.0.1:{served.port}/openapi.json", tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    operations = json.loads(served.ask("GET", "/openapi.json").body)["paths"]
    assert f"Tested: {sum(map(len, operations.values()))}" in ran.stdout, ran.stdout


def test_schemathesis_would_find_a_document_that_is_not_true(served: Served, tmp_path: Path) -> None:
    """The same run fails where the document promises what the service does not do."""
    document = json.loads(served.ask("GET", "/openapi.json").body)
    document["paths"] = {"/health/live": document["paths"]["/health/live"]}
    document["paths"]["/health/live"]["get"]["responses"]["200"]["content"]["application/json"]["schema"] = {"type": "integer"}
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    ran = run("openapi.json", tmp_path, "--url", f"http://127.0.0.1:{served.port}")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "Response violates schema" in ran.stdout
