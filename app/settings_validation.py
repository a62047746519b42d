"""Parses and checks the values of environment variables. Each function returns the value, or raises ValueError."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from app.store.database_url import DatabaseLocation
from monitoring.addresses import Address
from monitoring.breaker import Policy
from monitoring.exporter import settings as exporter

BREAKER = Policy(failures=5, rate=0.5, window_seconds=30, open_seconds=10)
BREAKER_FORM = f"off, or some of {BREAKER}"
_NUMBER_TYPES = {"failures": int, "minimum_calls": int, "rate": float, "window_seconds": float, "open_seconds": float}


def breaker_policy(text: object) -> object:
    """Parse `failures=5 rate=0.5`, in any order; the rest keeps its default. "off" means no breaker."""
    if not isinstance(text, str):
        return text
    if text == "off":
        return None
    given = dict(each.split("=", 1) for each in text.replace(",", " ").split())
    if not given or given.keys() - _NUMBER_TYPES.keys():
        raise ValueError
    numbers: dict[str, Any] = {name: _NUMBER_TYPES[name](value) for name, value in given.items()}
    return replace(BREAKER, **numbers)


def addresses(text: str) -> str:
    """Check the addresses of BIND, separated by commas. A host must be given: an empty one would mean every address."""
    parts = [part.strip() for part in text.split(",")]
    if any(address == Address(port=address.port) for address in map(Address.parse, parts)):
        raise ValueError
    return ",".join(parts)


def metrics_address(text: str) -> str:
    """Check METRICS_BIND, which may be empty: then no exporter runs."""
    return exporter.bind(text) if text else text


def url_path(text: str) -> str:
    """Check the path part of a URL. It may be empty."""
    if text and (not text.startswith("/") or any(character in "?#{}" or not " " < character < "\x7f" for character in text)):
        raise ValueError
    return text


def file_path(text: str) -> str:
    """Check the path of a file or folder."""
    if not text.isprintable():
        raise ValueError
    return text


def http_url(text: str) -> str:
    """Check the base URL of an HTTP service."""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not all(" " < character < "\x7f" for character in text):
        raise ValueError
    if any(character in "?#" for character in text) or parts.port == 0:  # reading an invalid port raises ValueError
        raise ValueError
    return text


def object_store_url(text: str) -> str:
    """Check a file:// or s3:// URL."""
    parts = urlsplit(text)
    folder = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
    bucket = parts.scheme == "s3" and bool(parts.netloc)
    if not (folder or bucket) or parts.query or parts.fragment or not text.isprintable():
        raise ValueError
    return text


def database(text: str) -> str:
    """Check DATABASE_URL."""
    DatabaseLocation.parse(text)
    return text


def networks(text: str) -> str:
    """Check IP addresses and networks, separated by commas."""
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if part != "*":
            ipaddress.ip_network(part)
    return ",".join(parts)


def lower(value: object) -> object:
    """Return a word in lower case without surrounding spaces."""
    return value.strip().lower() if isinstance(value, str) else value
