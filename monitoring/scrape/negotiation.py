"""Reads what a scraper asks for: the format, the encoding, and the names that it wants.

Anything that cannot be read counts as not asked for; a scraper that accepts nothing we have gets plain text all the same,
as Prometheus's own clients do.
"""

from collections.abc import Iterator

_FORMATS = {
    "application/openmetrics-text": True,
    "text/plain": False,
    "text/*": False,
    "*/*": False,
}


def openmetrics_preferred(accept: str) -> bool:
    """Say whether an Accept header asks for OpenMetrics 1.0.0; among equals a named format wins, then the one named first."""
    best = (0.0, True, 1)  # quality 0 refuses
    preferred = False
    for position, (kind, parameters) in enumerate(_items(accept)):
        openmetrics = _FORMATS.get(kind)
        if openmetrics is None or (openmetrics and parameters.get("version", "1.0.0") != "1.0.0"):
            continue
        rank = (_quality(parameters), "*" not in kind, -position)
        if rank > best:
            best, preferred = rank, openmetrics
    return preferred


def gzip_accepted(accept_encoding: str) -> bool:
    """Say whether an Accept-Encoding header allows gzip."""
    qualities = {coding: _quality(parameters) for coding, parameters in _items(accept_encoding)}
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def select(exposition: bytes, wanted: frozenset[bytes]) -> bytes:
    """Keep the samples with one of these names, and whole families with one of these names, each with its HELP and TYPE."""
    kept: list[bytes] = []
    head: list[bytes] = []
    family = b""
    for line in exposition.splitlines(keepends=True):
        if line.startswith(b"# EOF"):
            kept.append(line)
        elif line.startswith(b"#"):
            described = line.split(b" ", 3)[2].strip()
            if described != family:
                family, head = described, []
            head.append(line)
            if family in wanted:
                kept.extend(head)
                head = []
        elif family in wanted or line[: _name_ends(line)] in wanted:
            kept.extend(head)
            kept.append(line)
            head = []
    return b"".join(kept)


def _name_ends(line: bytes) -> int:
    brace, space = line.find(b"{"), line.find(b" ")
    return space if brace < 0 or space < brace else brace


def _items(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Give each element of a header with its parameters; a quoted comma or semicolon is in none that concerns us."""
    for element in header.split(","):
        value, *rest = (part.strip() for part in element.split(";"))
        if value:
            pairs = (part.partition("=") for part in rest)
            yield value.lower(), {name.strip().lower(): given.strip().strip('"') for name, _, given in pairs}


def _quality(parameters: dict[str, str]) -> float:
    try:
        return min(1.0, max(0.0, float(parameters.get("q", "1"))))
    except ValueError:
        return 0.0
