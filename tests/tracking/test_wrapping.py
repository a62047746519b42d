"""An operation is counted once, by how it ended, whatever kind of function it is written as; the function stays what it was."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
from typing import TYPE_CHECKING, Any

import pytest

from monitoring.tracking.wrapping import decorated, outcome

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator


class Log(list[Any]):
    """What a decorator saw: the arguments at each begin, the outcome and result at each end."""

    def __call__(self, function: Any = None) -> Any:
        return decorated(function, lambda _: self._begin)

    def _begin(self, args: Any, kwargs: Any) -> Callable[[str, Any], None]:
        self.append(("begin", args, kwargs))
        return lambda status, result: self.append((status, result))


@pytest.fixture
def log() -> Log:
    return Log()


class OwnError(Exception):
    """An error of the function's own."""


class ReadTimeout(Exception):
    """A timeout that is no TimeoutError."""


ENDS = [
    (None, "success"),
    (OwnError("why"), "error"),
    (TimeoutError("late"), "timeout"),
    (ReadTimeout("late"), "timeout"),
    (asyncio.CancelledError("gone"), "cancelled"),
    (GeneratorExit(), "cancelled"),
    (KeyboardInterrupt(), "error"),
]


def plain(error: BaseException | None) -> str:
    if error:
        raise error
    return "done"


async def coroutine(error: BaseException | None) -> str:
    await asyncio.sleep(0)
    return plain(error)


def generator(error: BaseException | None) -> Generator[int, None, str]:
    yield 1
    yield 2
    return plain(error)


async def async_generator(error: BaseException | None) -> AsyncGenerator[int]:
    yield 1
    await asyncio.sleep(0)
    yield 2
    plain(error)


def run(function: Any, *args: Any) -> Any:
    """Use the function as its kind is used, to its end."""

    async def through() -> list[Any]:
        return [item async for item in function(*args)]

    if inspect.iscoroutinefunction(function):
        return asyncio.run(function(*args))
    if inspect.isasyncgenfunction(function):
        return asyncio.run(through())
    result = function(*args)
    return list(result) if inspect.isgenerator(result) else result


@pytest.mark.parametrize("function", [plain, coroutine, generator, async_generator], ids=lambda function: function.__name__)
@pytest.mark.parametrize(("error", "status"), ENDS, ids=lambda value: repr(value) if isinstance(value, BaseException) else None)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_each_kind_and_each_end(function: Any, error: BaseException | None, status: str, log: Log) -> None:
    tracked = log(function)
    for kind in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        assert kind(tracked) == kind(function)
    assert inspect.signature(tracked) == inspect.signature(function)
    if error is None:
        assert run(tracked, None) == run(function, None)
    else:
        with pytest.raises(type(error)) as raised:
            run(tracked, error)
        assert raised.value is error
    assert [entry[0] for entry in log] == ["begin", status]


def test_the_result_of_a_generator_is_passed(log: Log) -> None:
    def user() -> Generator[int, None, str]:
        return (yield from log(generator)(None))

    stepped = user()
    assert [next(stepped), next(stepped)] == [1, 2]
    with pytest.raises(StopIteration) as ended:
        next(stepped)
    assert ended.value.value == "done"
    assert log[-1] == ("success", "done")


def echo() -> Generator[Any, Any, None]:
    sent = None
    while sent != "end":
        try:
            sent = yield sent
        except OwnError as error:
            sent = f"caught {error}"


async def async_echo() -> AsyncGenerator[Any, Any]:
    sent = None
    while sent != "end":
        try:
            sent = yield sent
        except OwnError as error:
            sent = f"caught {error}"


def test_a_generator_is_sent_to_and_thrown_into(log: Log) -> None:
    stepped = log(echo)()
    assert [next(stepped), stepped.send(1), stepped.throw(OwnError("x")), stepped.send(2)] == [None, 1, "caught x", 2]
    with pytest.raises(StopIteration):
        stepped.send("end")
    assert log[-1] == ("success", None)


def test_an_async_generator_is_sent_to_and_thrown_into(log: Log) -> None:
    async def use() -> list[Any]:
        stepped = log(async_echo)()
        seen = [await stepped.asend(None), await stepped.asend(1), await stepped.athrow(OwnError("x")), await stepped.asend(2)]
        with pytest.raises(StopAsyncIteration):
            await stepped.asend("end")
        return seen

    assert asyncio.run(use()) == [None, 1, "caught x", 2]
    assert log[-1] == ("success", None)


def test_what_an_async_generator_does_not_catch_comes_out(log: Log) -> None:
    async def use() -> None:
        stepped = log(async_generator)(None)
        await anext(stepped)
        await stepped.athrow(OwnError("x"))

    with pytest.raises(OwnError, match="x"):
        asyncio.run(use())
    assert log[-1] == ("error", None)


def test_who_leaves_a_generator_early_cancels_it(log: Log) -> None:
    for item in log(generator)(None):
        assert item == 1
        break
    gc.collect()
    assert log[-1] == ("cancelled", None)


def test_leaving_an_async_generator_early_waits_for_its_cleanup(log: Log) -> None:
    cleaned = []

    @log
    async def numbers() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    async def use() -> None:
        stepped = numbers()
        await anext(stepped)
        await stepped.aclose()

    asyncio.run(use())
    assert cleaned == [True]
    assert [entry[0] for entry in log] == ["begin", "cancelled"]


def test_a_generator_that_nobody_steps_is_no_operation(log: Log) -> None:
    log(generator)(None).close()
    assert log == []


def test_a_cancelled_task(log: Log) -> None:
    async def use() -> None:
        task = asyncio.ensure_future(log(asyncio.sleep)(60))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(use())
    assert [entry[0] for entry in log] == ["begin", "cancelled"]


def test_methods_of_every_kind(log: Log) -> None:
    class Service:
        name = "s"

        @log
        def method(self, number: int) -> str:
            return f"{self.name}{number}"

        @log()
        async def coroutine(self, number: int) -> str:
            return f"{self.name}{number}"

        @log
        @classmethod
        def of_class(cls, number: int) -> str:
            return f"{cls.name}{number}"

        @classmethod
        @log
        def inside(cls, number: int) -> str:
            return f"{cls.name}{number}"

        @log
        @staticmethod
        def static(number: int) -> str:
            return f"s{number}"

    service = Service()
    assert [service.method(1), asyncio.run(service.coroutine(2)), service.of_class(3), Service.inside(4), service.static(5)] == [
        "s1",
        "s2",
        "s3",
        "s4",
        "s5",
    ]
    assert [entry for entry in log if entry[0] == "success"] == [("success", f"s{number}") for number in range(1, 6)]


def test_callable_objects_and_partials(log: Log) -> None:
    class Call:
        async def __call__(self, number: int) -> int:
            return number

    assert asyncio.run(log(Call())(1)) == 1
    assert asyncio.run(log(functools.partial(Call().__call__, 2))()) == 2
    assert log(functools.partial(max, 3))(2) == 3
    assert log(len)([1]) == 1
    assert [entry[1] for entry in log if entry[0] == "success"] == [1, 2, 3, 1]


def test_what_is_no_function_is_refused_at_once(log: Log) -> None:
    with pytest.raises(TypeError, match="'nonsense' cannot be tracked"):
        log("nonsense")


@pytest.mark.parametrize(("error", "status"), ENDS[1:], ids=repr)
def test_outcomes(error: BaseException, status: str) -> None:
    assert outcome(error) == status
