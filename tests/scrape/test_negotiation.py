from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.scrape.negotiation import gzip_accepted, openmetrics_preferred, select

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_2 = "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; version=1.0.0", True),
        ('application/openmetrics-text; version="1.0.0"', True),
        ("application/openmetrics-text; version=2.0.0", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=nonsense", False),
        ("application/openmetrics-text, */*", True),
        ("*/*, application/openmetrics-text", True),
        ("text/plain, application/openmetrics-text", False),
        ("application/openmetrics-text, text/plain", True),
        ("text/plain;q=0.9, application/openmetrics-text;q=0.8", False),
        (PROMETHEUS_3, True),
        (PROMETHEUS_2, False),
    ],
)
def test_the_format_that_is_preferred(accept: str, openmetrics: bool) -> None:
    assert openmetrics_preferred(accept) is openmetrics


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("", False),
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*", True),
        ("identity", False),
        ("br, *;q=0", False),
    ],
)
def test_gzip_only_where_it_is_accepted(header: str, accepted: bool) -> None:
    assert gzip_accepted(header) is accepted


@given(st.text())
def test_no_header_raises(header: str) -> None:
    openmetrics_preferred(header)
    gzip_accepted(header)


TEXT = b"""# HELP a_total Help with # and { in it.
# TYPE a_total counter
a_total{x="b_total 1"} 1.0
a_total{x="2"} 2.0
# HELP b_seconds Some help.
# TYPE b_seconds histogram
b_seconds_bucket{le="1.0"} 1.0
b_seconds_bucket{le="+Inf"} 1.0
b_seconds_count 1.0
b_seconds_sum 0.5
# HELP empty_total No series yet.
# TYPE empty_total counter
# EOF
"""


def test_a_family_by_its_name_comes_whole() -> None:
    whole = b"".join(TEXT.splitlines(keepends=True)[4:10]) + b"# EOF\n"
    assert select(TEXT, frozenset({b"b_seconds"})) == whole


def test_samples_by_their_names_come_with_their_head() -> None:
    lines = select(TEXT, frozenset({b"b_seconds_count", b"a_total"})).splitlines()
    assert lines == [*TEXT.splitlines()[:6], b"b_seconds_count 1.0", b"# EOF"]


def test_a_family_without_series_keeps_its_head() -> None:
    assert select(TEXT, frozenset({b"empty_total"})) == b"# HELP empty_total No series yet.\n# TYPE empty_total counter\n# EOF\n"


def test_an_unknown_name_gives_nothing_but_the_end() -> None:
    assert select(TEXT, frozenset({b"b_total"})) == b"# EOF\n"


def test_every_name_gives_everything() -> None:
    assert select(TEXT, frozenset({b"a_total", b"b_seconds", b"empty_total"})) == TEXT
