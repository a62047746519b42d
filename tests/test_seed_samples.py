"""The code of the document that the project began from runs as it stands there, but for the prefix of its imports."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

STEP_1 = """
from prometheus_client import make_asgi_app
from neurectomy.monitoring.metrics import MetricsMiddleware, system_info

# Initialize system info
system_info.info({
    'version': '1.0.0',
    'environment': 'production',
    'cluster': 'neurectomy-prod'
})

# Add metrics middleware (should be first for accurate latency)
app.add_middleware(MetricsMiddleware)

# Mount Prometheus metrics endpoint
metrics_app = make_asgi_app()
app.mount("/metrics", metrics_app)
"""

STEP_3 = """
from neurectomy.monitoring.metrics import (
    track_ryot_request,
    increment_tokens_generated,
    track_compression,
    track_storage_operation
)

# Track Ryot LLM calls
@track_ryot_request
async def call_ryot(prompt: str, model: str = "default"):
    result = await ryot_client.generate(prompt, model=model)
    increment_tokens_generated(model, result.token_count)
    return result

# Track compression
@track_compression
async def compress_data(data: bytes):
    return await sigmalang_client.compress(data)

# Track storage
@track_storage_operation("store")
async def store_encrypted(path: str, data: bytes):
    return await sigmavault_client.store_encrypted(path, data)
"""

SERVICE = """
import asyncio
from fastapi import FastAPI
app = FastAPI()
@app.get("/items/{item}")
async def item(item: str): return item
"""

USE = """
async def get(path):
    sent = []
    async def receive(): return {"type": "http.request", "body": b"", "more_body": False}
    async def send(message): sent.append(message)
    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET", "scheme": "http",
             "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": [], "state": {},
             "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}
    await app(scope, receive, send)
    return b"".join(message.get("body", b"") for message in sent).decode()
async def use():
    await get("/items/7")
    return await get("/metrics/")
print(asyncio.run(use()))
"""


def ours(sample: str) -> str:
    return sample.replace("from neurectomy.monitoring", "from monitoring")


def test_the_middleware_and_the_mounted_endpoint(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = "from monitoring import multiprocess\nmultiprocess.install()\n" + SERVICE + ours(STEP_1) + USE
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_directory)
    ran = subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert 'neurectomy_http_requests_total{endpoint="/items/{item}",method="GET",status="200"} 1.0' in lines
    assert 'neurectomy_system_info{cluster="neurectomy-prod",environment="production",version="1.0.0"} 1.0' in lines


class Backend:
    """Stands where the samples' clients stand; they are not defined there."""

    async def generate(self, prompt: str, model: str) -> SimpleNamespace:
        return SimpleNamespace(token_count=len(prompt) + len(model))

    async def compress(self, data: bytes) -> bytes:
        return data[:2]

    async def store_encrypted(self, path: str, data: bytes) -> str:
        return path + data.decode()


def test_the_decorated_clients() -> None:
    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(f"neurectomy_{name}", labels) or 0.0

    def now() -> list[float]:
        return [
            value("ryot_requests_total", model="seed", status="success"),
            value("ryot_tokens_generated_total", model="seed"),
            value("sigmalang_compression_requests_total", status="success"),
            value("sigmalang_original_size_bytes_sum"),
            value("sigmavault_operations_total", operation="store", status="success"),
        ]

    names: dict[str, Any] = dict.fromkeys(("ryot_client", "sigmalang_client", "sigmavault_client"), Backend())
    exec(compile(ours(STEP_3), "the seed's step 3", "exec"), names)
    before = now()
    asyncio.run(names["call_ryot"]("abc", model="seed"))
    assert asyncio.run(names["compress_data"](b"abcdef")) == b"ab"
    assert asyncio.run(names["store_encrypted"]("p", b"d")) == "pd"
    assert [after - old for after, old in zip(now(), before, strict=True)] == [1, 7, 1, 6, 1]
