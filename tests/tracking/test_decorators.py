"""The decorators: bare and with parentheses, plain and async, each outcome apart, the function's own signature, result and exception."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any

import pytest

from monitoring import metrics
from monitoring.metrics import track_compression, track_decompression

if TYPE_CHECKING:
    from collections.abc import Callable

DECORATORS = {
    "compression": (track_compression, metrics.sigmalang_compression_requests, metrics.sigmalang_compression_duration_seconds),
    "decompression": (track_decompression, metrics.sigmalang_decompression_requests, metrics.sigmalang_decompression_duration_seconds),
}
SIZES = {
    "original": metrics.sigmalang_original_size_bytes,
    "compressed": metrics.sigmalang_compressed_size_bytes,
    "ratio": metrics.sigmalang_compression_ratio,
}
WAYS: dict[str, Callable[[Any], Callable[[Any], Any]]] = {"bare": lambda tracks: tracks, "with parentheses": lambda tracks: tracks()}


class Gained:
    """What moved since it was made: families are shared by all tests of a process."""

    def __init__(self) -> None:
        self._before = self._now()

    @staticmethod
    def _now() -> dict[str, float]:
        found: dict[str, float] = {}
        for family in (*(part for _, *both in DECORATORS.values() for part in both), *SIZES.values()):
            for sample in family.collect()[0].samples:
                if not sample.name.endswith(("_bucket", "_created", "seconds_sum")):
                    found[sample.name.removeprefix("neurectomy_sigmalang_") + "".join(sample.labels.values())] = sample.value
        return found

    def __call__(self) -> dict[str, float]:
        return {name: value - self._before.get(name, 0) for name, value in self._now().items() if value != self._before.get(name, 0)}


@pytest.fixture
def gained() -> Gained:
    return Gained()


def call(function: Any, *args: Any, **kwargs: Any) -> Any:
    result = function(*args, **kwargs)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def make(asynchronous: bool, body: Callable[..., Any]) -> Any:
    if not asynchronous:
        return body

    async def function(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return body(*args, **kwargs)

    return function


def test_each_family_is_where_the_catalogue_has_it() -> None:
    for name, (_, requests, duration) in DECORATORS.items():
        assert requests.collect()[0].name == f"neurectomy_sigmalang_{name}_requests"
        assert duration.collect()[0].name == f"neurectomy_sigmalang_{name}_duration_seconds"


@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", DECORATORS)
def test_a_success(name: str, way: Any, asynchronous: bool, gained: Gained) -> None:
    function = way(DECORATORS[name][0])(make(asynchronous, lambda document, *, level=1: document[: len(document) // 4] * level))
    assert inspect.iscoroutinefunction(function) is asynchronous
    assert call(function, b"x" * 1000, level=1) == b"x" * 250
    sizes = {
        "original_size_bytes_count": 1,
        "original_size_bytes_sum": 1000,
        "compressed_size_bytes_count": 1,
        "compressed_size_bytes_sum": 250,
        "compression_ratio_count": 1,
        "compression_ratio_sum": 4,
    }
    expected = {f"{name}_requests_totalsuccess": 1, f"{name}_duration_seconds_count": 1}
    assert gained() == (expected | sizes if name == "compression" else expected)


FAILURES = [
    (ValueError("malformed"), "error"),
    (OSError("disk"), "error"),
    (KeyboardInterrupt(), "error"),
    (TimeoutError("slow"), "timeout"),
    (asyncio.CancelledError(), "cancelled"),
    (GeneratorExit(), "cancelled"),
]


@pytest.mark.parametrize(("failure", "status"), FAILURES, ids=[type(failure).__name__ for failure, _ in FAILURES])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", DECORATORS)
def test_a_failure(name: str, way: Any, asynchronous: bool, failure: BaseException, status: str, gained: Gained) -> None:
    def fail(_document: bytes) -> bytes:
        raise failure

    function = way(DECORATORS[name][0])(make(asynchronous, fail))

    def run() -> None:
        if asynchronous:
            coroutine = function(b"x")
            coroutine.send(None)  # to its first await
            coroutine.send(None)
        else:
            function(b"x")

    with pytest.raises(type(failure)) as caught:
        run()
    assert caught.value is failure
    assert gained() == {f"{name}_requests_total{status}": 1}


@pytest.mark.parametrize("name", DECORATORS)
def test_a_timeout_and_a_cancellation_as_asyncio_makes_them(name: str, gained: Gained) -> None:
    @DECORATORS[name][0]
    async def timing_out() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    @DECORATORS[name][0]
    async def endless() -> None:
        await asyncio.Event().wait()

    async def cancel() -> None:
        task = asyncio.create_task(endless())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        coroutine = endless()
        coroutine.send(None)
        coroutine.close()

    with pytest.raises(TimeoutError):
        asyncio.run(timing_out())
    asyncio.run(cancel())
    assert gained() == {f"{name}_requests_totaltimeout": 1, f"{name}_requests_totalcancelled": 2}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("name", DECORATORS)
def test_the_signature_stays(name: str, asynchronous: bool) -> None:
    def plain(document: bytes, *, level: int = 3) -> bytes:
        """Say what it does."""
        return document * level

    async def later(document: bytes, *, level: int = 3) -> bytes:
        """Say what it does."""
        return document * level

    original: Any = later if asynchronous else plain
    for way in WAYS.values():
        function = way(DECORATORS[name][0])(original)
        assert inspect.signature(function) == inspect.signature(original)
        assert function.__name__ == original.__name__
        assert function.__doc__ == "Say what it does."
        assert function.__wrapped__ is original


def test_methods_and_partials(gained: Gained) -> None:
    class Codec:
        @track_compression
        def compress(self, document: bytes) -> bytes:
            return document[:1]

        @staticmethod
        @track_compression()
        async def later(document: bytes) -> bytes:
            return document[:1]

    assert Codec().compress(b"ab") == b"a"
    assert asyncio.run(Codec.later(b"abc")) == b"a"

    async def levelled(level: int, document: bytes) -> bytes:
        return document[:level]

    function: Any = track_compression(functools.partial(levelled, 1))
    assert inspect.iscoroutinefunction(function)
    assert asyncio.run(function(b"abcd")) == b"a"
    assert gained()["original_size_bytes_sum"] == 9
    assert gained()["compression_requests_totalsuccess"] == 3


def test_an_object_that_is_called_asynchronously(gained: Gained) -> None:
    class Codec:
        async def __call__(self, document: bytes) -> bytes:
            await asyncio.sleep(0)
            if not document:
                raise ValueError("empty")
            return document[:1]

    function: Any = track_compression(Codec())
    assert asyncio.run(function(b"abc")) == b"a"
    assert gained()["original_size_bytes_sum"] == 3
    with pytest.raises(ValueError, match="empty"):
        asyncio.run(function(b""))
    assert gained()["compression_requests_totalerror"] == 1


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("named", [False, True])
def test_sizes_of_every_kind_of_bytes(kind: Any, named: bool, gained: Gained) -> None:
    @track_compression
    def compress(level: int, *, document: Any) -> Any:
        assert level == 3
        return kind(bytes(document)[:2])

    @track_compression
    def positional(level: int, document: Any) -> Any:
        assert level == 3
        return kind(bytes(document)[:2])

    assert len(compress(3, document=kind(b"abcd")) if named else positional(3, kind(b"abcd"))) == 2
    moved = gained()
    assert (moved["original_size_bytes_sum"], moved["compressed_size_bytes_sum"], moved["compression_ratio_sum"]) == (4, 2, 2)


def test_a_document_that_is_used_up_has_the_size_that_it_had(gained: Gained) -> None:
    @track_compression
    def consume(document: Any) -> bytes:
        if isinstance(document, memoryview):
            document.release()
        else:
            document.clear()
        return b"ab"

    assert consume(bytearray(b"abcd")) == b"ab"
    assert consume(memoryview(b"abcdef")) == b"ab"
    moved = gained()
    assert moved["original_size_bytes_sum"] == 10
    assert moved["compression_ratio_sum"] == 5
    assert moved["compression_requests_totalsuccess"] == 2


@pytest.mark.parametrize(("document", "result"), [(b"abc", None), ("text", b"a"), (None, None), (b"abc", b""), (b"", b"")], ids=repr)
def test_without_sizes_the_outcome_is_still_counted(document: Any, result: Any, gained: Gained) -> None:
    assert track_compression(lambda _: result)(document) is result
    moved = gained()
    assert moved["compression_requests_totalsuccess"] == 1
    assert moved["compression_duration_seconds_count"] == 1
    assert "compression_ratio_count" not in moved
    assert ("original_size_bytes_count" in moved) is (isinstance(document, bytes) and result is not None)


def test_durations_are_seconds() -> None:
    import time

    _, _, duration = DECORATORS["compression"]
    before = duration._sum.get()
    began = time.perf_counter()
    track_compression(lambda: time.sleep(0.05))()
    whole = time.perf_counter() - began
    assert 0.05 <= duration._sum.get() - before <= whole
