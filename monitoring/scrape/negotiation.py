"""Parses the headers of a scrape (format and encoding), and filters an exposition by name.

Text that cannot be parsed is ignored. A scraper that accepts none of the formats gets plain text, as from Prometheus's own clients.
"""

from collections.abc import Iterator

_FORMATS = {
    "application/openmetrics-text": True,
    "text/plain": False,
    "text/*": False,
    "*/*": False,
}


def openmetrics_preferred(accept: str) -> bool:
    """Return whether an Accept header prefers OpenMetrics 1.0.0. Among equals a named format wins, then the first one."""
    best = (0.0, True, 1)  # a quality of 0 excludes a format
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
    """Return whether an Accept-Encoding header allows gzip."""
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
    """Yield each element of a header with its parameters. Quoted commas do not occur in the elements that are used here."""
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
