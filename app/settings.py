"""Every environment variable of the service: its type, its default, and its allowed values.

docs/configuration.md explains each variable. A value that is not allowed raises a SettingsError of one line.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app import settings_validation as check
from app.store.database_url import ALLOWED, DatabaseLocation
from monitoring.breaker import Policy
from monitoring.exporter import settings as exporter

#: An empty value of these means "none"; an empty value of any other variable counts as unset.
_MAY_BE_EMPTY = ("METRICS_BIND", "METRICS_PATH")
_SECRET = ("METRICS_TOKEN", "RYOT_API_KEY", "DATABASE_URL", "ADMIN_KEY")


class SettingsError(ValueError):
    """A variable has a value that is not allowed; the text is one line with the name, the value, and the allowed values."""


Count = Annotated[int, Field(ge=1, le=4096)]
Number = Annotated[int, Field(ge=0, le=1_000_000_000)]
Seconds = Annotated[int, Field(ge=0, le=86_400)]
Timeout = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=1, le=1024**4)]
Token = Annotated[str, AfterValidator(exporter.token)]
FilePath = Annotated[str, AfterValidator(check.file_path)]
Breaker = Annotated[Policy | None, BeforeValidator(check.breaker_policy)]

_COUNT = "a whole number from 1 to 4096"
_NUMBER = "a whole number from 0 (off) to 1000000000"
_BYTES = "whole bytes from 1 to 1099511627776"
_SECONDS = "whole seconds from 0 to 86400"
_TIMEOUT = "seconds, more than 0 and at most 86400"


class Settings(BaseSettings):
    """The environment, checked. Each field's description names the allowed values."""

    model_config = SettingsConfigDict(
        alias_generator=str.upper, populate_by_name=True, case_sensitive=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    bind: Annotated[str, AfterValidator(check.addresses)] = Field(
        default="127.0.0.1:8000", description="host:port, [ipv6]:port, unix:/path or fd://number, several with commas"
    )
    port: Annotated[int, Field(ge=0, le=65535)] | None = Field(default=None, description="a whole number from 0 to 65535")
    metrics_bind: Annotated[str, AfterValidator(check.metrics_address)] = Field(
        default=exporter.DEFAULT_BIND, description=exporter.BIND_FORM
    )
    metrics_path: Annotated[str, AfterValidator(check.url_path)] = Field(
        default="/metrics", description="a path that starts with / and has no spaces, ?, #, { or }; or empty for none"
    )
    metrics_token: Token | None = Field(default=None, description=exporter.TOKEN_FORM)
    metrics_linger: Annotated[float, BeforeValidator(exporter.seconds)] = Field(default=0, description=exporter.LINGER_FORM)
    web_concurrency: Count | None = Field(default=None, description=_COUNT)
    worker_memory_mb: Annotated[int, Field(ge=1, le=1_048_576)] = Field(default=200, description="a whole number from 1 to 1048576")
    worker_class: Annotated[Literal["uvicorn", "asgi"], BeforeValidator(check.lower)] = Field(
        default="uvicorn", description="uvicorn or asgi"
    )
    limit_concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="a whole number from 1 to 1000000"
    )
    preload: bool = Field(default=False, description="1, true, yes, on, 0, false, no or off")
    max_requests: Number = Field(default=0, description=_NUMBER)
    max_requests_jitter: Number | None = Field(default=None, description=_NUMBER)
    timeout: Seconds = Field(default=30, description=_SECONDS)
    graceful_timeout: Annotated[int, Field(ge=1, le=86_400)] = Field(default=30, description="whole seconds from 1 to 86400")
    keep_alive: Seconds = Field(default=5, description=_SECONDS)
    forwarded_allow_ips: Annotated[str, AfterValidator(check.networks)] = Field(
        default="127.0.0.1,::1", description="IP addresses or networks with commas, or * for any peer"
    )
    log_level: Annotated[Literal["critical", "error", "warning", "info", "debug"], BeforeValidator(check.lower)] = Field(
        default="info", description="critical, error, warning, info or debug"
    )
    ryot_base_url: Annotated[str, AfterValidator(check.http_url)] | None = Field(
        default=None, description="an address that starts with http:// or https:// and has no ?, # or spaces"
    )
    ryot_api_key: Token | None = Field(default=None, description=exporter.TOKEN_FORM)
    ryot_timeout: Timeout = Field(default=60, description=_TIMEOUT)
    ryot_stream_timeout: Timeout = Field(default=600, description=_TIMEOUT)
    ryot_standin_tokens_per_second: Annotated[float, Field(ge=0.01, le=1_000_000)] | None = Field(
        default=None, description="tokens per second from 0.01 to 1000000; without it, the stand-in makes no pauses"
    )
    ryot_standin_loading_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(default=0, description="seconds from 0 to 3600")

    ryot_breaker: Breaker = Field(default=check.BREAKER, description=check.BREAKER_FORM)
    vault_breaker: Breaker = Field(default=check.BREAKER, description=check.BREAKER_FORM)

    gpu_seconds: Annotated[float, BeforeValidator(exporter.seconds)] = Field(
        default=exporter.DEFAULT_GPU_SECONDS, description=exporter.GPU_SECONDS_FORM
    )
    gpu_in: Annotated[Literal["worker", "exporter"], BeforeValidator(exporter.gpu_in)] = Field(
        default="worker", description=exporter.GPU_IN_FORM
    )
    gpu_pids_match: bool | None = Field(default=None, description="1 or 0; detected where it is not set")

    vault_url: Annotated[str, AfterValidator(check.object_store_url)] | None = Field(
        default=None, description="file:///path or s3://bucket/prefix; by default the folder `vault` in DATA_DIR"
    )
    vault_key_file: FilePath | None = Field(default=None, description="a path of visible characters")
    vault_max_object_bytes: Bytes = Field(default=1024**3, description=_BYTES)

    data_dir: FilePath = Field(default="data", description="a path of visible characters")
    database_url: Annotated[str, AfterValidator(check.database)] | None = Field(default=None, description=ALLOWED)
    require_api_key: bool = Field(default=True, description="1, true, yes, on, 0, false, no or off")
    user_window_seconds: Annotated[int, Field(ge=5, le=86_400)] = Field(default=300, description="whole seconds from 5 to 86400")
    admin_key: Token | None = Field(default=None, description=exporter.TOKEN_FORM)
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
        """PORT alone means every address; MAX_REQUESTS is spread by default, so that workers do not restart together."""
        if self.port is not None and "bind" not in self.model_fields_set:
            object.__setattr__(self, "bind", f"0.0.0.0:{self.port}")
        if self.max_requests_jitter is None:
            object.__setattr__(self, "max_requests_jitter", self.max_requests // 10)
        return self

    @property
    def database(self) -> DatabaseLocation:
        """Where the database is: DATABASE_URL, or a file in DATA_DIR."""
        if self.database_url is not None:
            return DatabaseLocation.parse(self.database_url)
        return DatabaseLocation.of_file(Path(self.data_dir) / "neurectomy.db")

    @classmethod
    def load(cls) -> Self:
        """Read the environment; raise SettingsError for the first value that is not allowed."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            name = str(first["loc"][0]) if first["loc"] else "environment"
            form = cls.model_fields[name.lower()].description
            raise SettingsError(exporter.not_allowed(name, first.get("input"), form, secret=name in _SECRET)) from None


if __name__ == "__main__":
    # gunicorn reads some of these before its configuration file can, and reports a bad value with a traceback.
    try:
        Settings.load()
    except SettingsError as refused:
        sys.exit(str(refused))
