"""Every environment variable of the service: its type, its default, and what is allowed.

docs/configuration.md says what each one means. A value that is not allowed is a SettingsError of one line.
"""

import ipaddress
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.store import database_url as place
from monitoring.breaker import Policy
from monitoring.exporter.listening_socket import parse

#: An empty value of these says "none"; of every other variable, an empty value is as good as no value.
_MAY_BE_EMPTY = ("METRICS_BIND", "METRICS_PATH")
_SECRET = ("METRICS_TOKEN", "RYOT_API_KEY", "DATABASE_URL", "ADMIN_KEY")


_BREAKER = Policy(failures=5, rate=0.5, window_seconds=30, open_seconds=10)
_WHOLE = {"failures": True, "minimum_calls": True, "rate": False, "window_seconds": False, "open_seconds": False}
_POLICY = f"off, or some of {_BREAKER}"


class SettingsError(ValueError):
    """A variable has a value that is not allowed; the text is one line with its name, its value, and what is allowed."""


def _policy(text: object) -> object:
    """Parse `failures=5 rate=0.5`, in any order, what is missing as by default; "off" is no breaker."""
    if not isinstance(text, str):
        return text
    if text == "off":
        return None
    given = dict(each.split("=", 1) for each in text.replace(",", " ").split())
    unknown = given.keys() - _WHOLE.keys()
    if unknown or not given:
        raise ValueError
    numbers: dict[str, Any] = {name: int(value) if _WHOLE[name] else float(value) for name, value in given.items()}
    return replace(_BREAKER, **numbers)


def _one_address(text: str) -> str:
    if text.startswith("fd://") and text.removeprefix("fd://").isdecimal():
        return text
    address = text.removeprefix("tcp://")
    if address.startswith("unix:"):
        if not address.removeprefix("unix:").strip("/"):
            raise ValueError
        return text
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]") if host.startswith("[") and host.endswith("]") else host
    if not (colon and port.isascii() and port.isdecimal() and int(port) <= 65535) or (":" in bare and bare == host):
        raise ValueError
    if not bare or any(character.isspace() or character in "[]/," for character in bare):
        raise ValueError
    return text


def _addresses(text: str) -> str:
    parts = [part.strip() for part in text.split(",")]
    return ",".join(_one_address(part) for part in parts)


def _metrics_address(text: str) -> str:
    if text and not text.startswith("unix:"):
        host, _, port = text.rpartition(":")
        parse(f"127.0.0.1:{port}")
        _one_address(text if host else f"0.0.0.0{text}")
    elif text == "unix:":
        raise ValueError
    return text


def _path(text: str) -> str:
    if text and (not text.startswith("/") or any(character in "?#{}" or not " " < character < "\x7f" for character in text)):
        raise ValueError
    return text


def _folder(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


def _token(text: str) -> str:
    if not all(" " < character < "\x7f" for character in text):
        raise ValueError
    return text


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not all(" " < character < "\x7f" for character in text):
        raise ValueError
    if any(character in "?#" for character in text) or parts.port == 0:  # the port of a nonsense one raises by itself
        raise ValueError
    return text


def _store_url(text: str) -> str:
    parts = urlsplit(text)
    folder = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
    bucket = parts.scheme == "s3" and bool(parts.netloc)
    if not (folder or bucket) or parts.query or parts.fragment or not text.isprintable():
        raise ValueError
    return text


def _database(text: str) -> str:
    place.Place.parse(text)
    return text


def _networks(text: str) -> str:
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if part != "*":
            ipaddress.ip_network(part)
    return ",".join(parts)


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


Count = Annotated[int, Field(ge=1, le=4096)]
Number = Annotated[int, Field(ge=0, le=1_000_000_000)]
Seconds = Annotated[int, Field(ge=0, le=86_400)]
Breaker = Annotated[Policy | None, BeforeValidator(_policy)]
Bytes = Annotated[int, Field(ge=1, le=1024**4)]

_COUNT = "a whole number from 1 to 4096"
_NUMBER = "a whole number from 0 (off) to 1000000000"
_BYTES = "whole bytes from 1 to 1099511627776"
_SECONDS = "whole seconds from 0 to 86400"


class Settings(BaseSettings):
    """The environment, checked. Each field's description says what is allowed."""

    model_config = SettingsConfigDict(
        alias_generator=str.upper, populate_by_name=True, case_sensitive=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    bind: Annotated[str, AfterValidator(_addresses)] = Field(
        default="127.0.0.1:8000", description="host:port, [ipv6]:port, unix:/path or fd://number, several with commas"
    )
    port: Annotated[int, Field(ge=0, le=65535)] | None = Field(default=None, description="a whole number from 0 to 65535")
    metrics_bind: Annotated[str, AfterValidator(_metrics_address)] = Field(
        default="127.0.0.1:9464", description="host:port, [ipv6]:port, unix:/path, or nothing for no exporter"
    )
    metrics_path: Annotated[str, AfterValidator(_path)] = Field(
        default="/metrics", description="a path that begins with / and has no spaces, ?, #, { or }; or nothing for none"
    )
    metrics_token: Annotated[str, AfterValidator(_token)] | None = Field(
        default=None, description="visible ASCII characters without spaces"
    )
    web_concurrency: Count | None = Field(default=None, description=_COUNT)
    worker_memory_mb: Annotated[int, Field(ge=1, le=1_048_576)] = Field(default=200, description="a whole number from 1 to 1048576")
    worker_class: Annotated[Literal["uvicorn", "asgi"], BeforeValidator(_lower)] = Field(default="uvicorn", description="uvicorn or asgi")
    limit_concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="a whole number from 1 to 1000000"
    )
    preload: bool = Field(default=False, description="1, true, yes, on, 0, false, no or off")
    max_requests: Number = Field(default=0, description=_NUMBER)
    max_requests_jitter: Number | None = Field(default=None, description=_NUMBER)
    timeout: Seconds = Field(default=30, description=_SECONDS)
    graceful_timeout: Annotated[int, Field(ge=1, le=86_400)] = Field(default=30, description="whole seconds from 1 to 86400")
    keep_alive: Seconds = Field(default=5, description=_SECONDS)
    forwarded_allow_ips: Annotated[str, AfterValidator(_networks)] = Field(
        default="127.0.0.1,::1", description="IP addresses or networks with commas, or * for any peer"
    )
    log_level: Annotated[Literal["critical", "error", "warning", "info", "debug"], BeforeValidator(_lower)] = Field(
        default="info", description="critical, error, warning, info or debug"
    )
    ryot_base_url: Annotated[str, AfterValidator(_url)] | None = Field(
        default=None, description="an address that begins with http:// or https:// and has no ?, # or spaces"
    )
    ryot_api_key: Annotated[str, AfterValidator(_token)] | None = Field(default=None, description="visible ASCII characters without spaces")
    ryot_timeout: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = Field(
        default=60, description="seconds, more than 0 and at most 86400"
    )
    ryot_stream_timeout: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = Field(
        default=600, description="seconds, more than 0 and at most 86400"
    )
    ryot_standin_tokens_per_second: Annotated[float, Field(ge=0.01, le=1_000_000)] | None = Field(
        default=None, description="tokens per second from 0.01 to 1000000; without it, the stand-in makes no pauses"
    )
    ryot_standin_loading_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(default=0, description="seconds from 0 to 3600")

    ryot_breaker: Breaker = Field(default=_BREAKER, description=_POLICY)
    vault_breaker: Breaker = Field(default=_BREAKER, description=_POLICY)

    gpu_seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = Field(
        default=5, description="seconds from 0 (GPUs are not read) to 3600"
    )
    gpu_in: Annotated[Literal["worker", "exporter"], BeforeValidator(_lower)] = Field(default="worker", description="worker or exporter")
    gpu_pids_match: bool | None = Field(default=None, description="1 or 0; without it that is found out")

    vault_url: Annotated[str, AfterValidator(_store_url)] | None = Field(
        default=None, description="file:///path or s3://bucket/prefix; without it, the folder `vault` in DATA_DIR"
    )
    vault_key_file: Annotated[str, AfterValidator(_folder)] | None = Field(default=None, description="a path of visible characters")
    vault_max_object_bytes: Bytes = Field(default=1024**3, description=_BYTES)

    data_dir: Annotated[str, AfterValidator(_folder)] = Field(default="data", description="a path of visible characters")
    database_url: Annotated[str, AfterValidator(_database)] | None = Field(default=None, description=place.ALLOWED)
    require_api_key: bool = Field(default=True, description="1, true, yes, on, 0, false, no or off")
    user_window_seconds: Annotated[int, Field(ge=5, le=86_400)] = Field(default=300, description="whole seconds from 5 to 86400")
    admin_key: Annotated[str, AfterValidator(_token)] | None = Field(default=None, description="visible ASCII characters without spaces")
    sigmalang_max_document_bytes: Bytes = Field(default=1024**3, description=_BYTES)
    sigmalang_max_unfolded_bytes: Bytes = Field(default=1024**3, description=_BYTES)
    sigmalang_max_long_bodies: Count = Field(default=8, description=_COUNT)
    sigmalang_max_dictionaries: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=100, description="a whole number from 0 (none can be added) to 10000"
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: dict[str, object]) -> dict[str, object]:
        return {name: value for name, value in values.items() if value != "" or name.upper() in _MAY_BE_EMPTY}

    @model_validator(mode="after")
    def _settle(self) -> Self:
        """PORT alone means every address; recycling is spread by default, so that workers do not end together."""
        if self.port is not None and "bind" not in self.model_fields_set:
            object.__setattr__(self, "bind", f"0.0.0.0:{self.port}")
        if self.max_requests_jitter is None:
            object.__setattr__(self, "max_requests_jitter", self.max_requests // 10)
        return self

    @property
    def database(self) -> place.Place:
        """Where the database is: DATABASE_URL, or a file in DATA_DIR."""
        if self.database_url is not None:
            return place.Place.parse(self.database_url)
        return place.Place.of_file(Path(self.data_dir) / "neurectomy.db")

    @classmethod
    def load(cls) -> Self:
        """Read the environment; raise SettingsError for the first value that is not allowed."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            name = str(first["loc"][0]) if first["loc"] else "environment"
            value = "(hidden)" if name in _SECRET else repr(first.get("input"))[:200]
            allowed = cls.model_fields[name.lower()].description
            message = f"{name}={value} is not allowed: it must be {allowed}"
            raise SettingsError(message) from None


if __name__ == "__main__":
    # gunicorn reads some of these before its configuration file can, and answers nonsense with a traceback.
    try:
        Settings.load()
    except SettingsError as refused:
        sys.exit(str(refused))
