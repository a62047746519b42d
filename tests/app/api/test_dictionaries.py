from __future__ import annotations

import base64
import json
import os
import statistics
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from app.integrations import dictionaries
from app.integrations.dictionaries import Dictionaries, TooManyDictionariesError, UnknownDictionaryError
from tests.app.problems import RAW, refuse
from tests.app.scraped import moved, samples
from tests.conftest import ROOT
from tests.processes import wait_until
from tests.server_process import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.gunicorn_service import Gunicorn
    from tests.server_process import Answer, Served

sys.path.insert(0, str(ROOT / "benchmarks"))
from _documents import orders

ORDERS = orders(400)
JSON = {"Content-Type": "application/json"}


def body(documents: list[bytes], **more: Any) -> bytes:
    return json.dumps({"samples": [base64.b64encode(document).decode() for document in documents], **more}).encode()


def train(served: Served, documents: list[bytes], **more: Any) -> Answer:
    return served.ask("POST", "/v1/dictionaries", body(documents, **more), JSON)


@pytest.fixture
def trained(served: Served) -> Iterator[str]:
    answer = train(served, ORDERS[:200])
    assert answer.status == 201, answer.body
    name = json.loads(answer.body)["id"]
    yield name
    served.ask("DELETE", f"/v1/dictionaries/{name}")


def listed(served: Served) -> list[str]:
    answer = served.ask("GET", "/v1/dictionaries")
    assert answer.status == 200
    return [each["id"] for each in json.loads(answer.body)["dictionaries"]]


def test_there_and_back_with_a_dictionary_and_five_times_smaller(served: Served, trained: str) -> None:
    before = samples(served)
    ratios, without = [], []
    for document in ORDERS[200:]:
        frame = served.ask("POST", f"/v1/compress?dictionary={trained}", document, RAW).body
        ratios.append(len(document) / len(frame))
        without.append(len(document) / len(zstandard.compress(document)))
    assert max(map(len, ORDERS)) < 2048
    assert statistics.median(ratios) >= 5
    assert statistics.median(without) < 3
    assert moved(served, before)["compression_ratio_count"] == 200
    restored = served.ask("POST", f"/v1/decompress?dictionary={trained}", frame, RAW)
    assert restored.body == document
    long = b"".join(ORDERS) * 20
    frame = served.ask("POST", f"/v1/compress?dictionary={trained}&level=9", long, RAW).body
    assert served.ask("POST", f"/v1/decompress?dictionary={trained}", frame, RAW).body == long


def test_the_bytes_are_those_of_zstandard(served: Served, trained: str) -> None:
    assert trained in listed(served)
    data = served.ask("GET", f"/v1/dictionaries/{trained}").body
    assert len(data) <= 16 * 1024
    frame = served.ask("POST", f"/v1/compress?dictionary={trained}", ORDERS[0], RAW).body
    assert zstandard.ZstdDecompressor(dict_data=zstandard.ZstdCompressionDict(data)).decompress(frame) == ORDERS[0]


def test_the_same_samples_give_the_same_id(served: Served, trained: str) -> None:
    again = train(served, ORDERS[:200])
    assert (again.status, json.loads(again.body)["id"]) == (201, trained)
    assert listed(served).count(trained) == 1


def test_what_is_deleted_is_unknown(served: Served, trained: str) -> None:
    assert served.ask("POST", f"/v1/compress?dictionary={trained}", b"x", RAW).status == 200
    assert served.ask("DELETE", f"/v1/dictionaries/{trained}").status == 204
    before = samples(served)
    for method, path in (
        ("POST", f"/v1/compress?dictionary={trained}"),
        ("POST", f"/v1/decompress?dictionary={trained}"),
        ("GET", f"/v1/dictionaries/{trained}"),
        ("DELETE", f"/v1/dictionaries/{trained}"),
    ):
        refuse(served.ask(method, path, b"x" if method == "POST" else None, RAW), 404, "unknown_dictionary")
    assert moved(served, before) == {
        'compression_requests_total{status="error"}': 1,
        'decompression_requests_total{status="error"}': 1,
    }


@pytest.mark.parametrize("name", ["", "x", "..%2f..%2fetc%2fpasswd", ".lock", "0" * 32, "A" * 32, "0" * 5000])
def test_an_unknown_id_is_404_whatever_it_looks_like(served: Served, name: str) -> None:
    refuse(served.ask("POST", f"/v1/compress?dictionary={name}", b"x", RAW), 404, "unknown_dictionary")


def test_a_frame_says_that_it_needs_a_dictionary(served: Served, trained: str) -> None:
    frame = served.ask("POST", f"/v1/compress?dictionary={trained}", ORDERS[0], RAW).body
    refuse(served.ask("POST", "/v1/decompress", frame, RAW), 422, "dictionary_needed")
    other = json.loads(train(served, ORDERS[200:], size=4096).body)["id"]
    refuse(served.ask("POST", f"/v1/decompress?dictionary={other}", frame, RAW), 422, "wrong_dictionary")
    assert served.ask("DELETE", f"/v1/dictionaries/{other}").status == 204


def test_a_wrong_method_is_told_all_that_the_path_has(served: Served) -> None:
    assert served.ask("PUT", "/v1/dictionaries").headers["allow"] == "GET, POST"
    assert served.ask("POST", "/v1/dictionaries/x").headers["allow"] == "DELETE, GET"


USELESS = [
    [b"few"] * 7,
    [b""] * 100,
    [b"a"] * 10,  # zstandard's trainer ends its process with a signal on these
    [os.urandom(400) for _ in range(100)],
]


@pytest.mark.parametrize("documents", USELESS)
def test_useless_samples_are_refused_with_a_reason(served: Served, documents: list[bytes]) -> None:
    answer = train(served, documents)
    refuse(answer, 422, "invalid" if len(documents) < 8 else "useless_samples")
    assert served.ask("GET", "/health/live").status == 200


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        body(ORDERS[:20], size=1),
        body(ORDERS[:20], size="16384"),
        b'{"samples": ' + json.dumps(["=!"] * 9).encode() + b"}",
    ],
)
def test_what_is_no_list_of_samples_is_refused(served: Served, given: bytes) -> None:
    refuse(served.ask("POST", "/v1/dictionaries", given, JSON), 422, "invalid")


def test_too_much_is_refused_and_so_is_one_too_many(served: Served) -> None:
    refuse(served.ask("POST", "/v1/dictionaries", bytes(16 * 1024 * 1024 + 1), JSON), 413, "too_large")
    made = [json.loads(train(served, ORDERS[:200], size=size).body)["id"] for size in (1024, 2048, 4096)]
    refuse(train(served, ORDERS[:200], size=8192), 409, "too_many_dictionaries")
    assert train(served, ORDERS[:200], size=1024).status == 201, "one that is there already needs no room"
    for name in made:
        assert served.ask("DELETE", f"/v1/dictionaries/{name}").status == 204
    assert listed(served) == []


@pytest.mark.usefixtures("preloaded")
def test_all_workers_see_a_dictionary_at_once(gunicorn: Gunicorn, tmp_path: Path) -> None:
    gunicorn.environment |= {"WEB_CONCURRENCY": "4", "DATA_DIR": str(tmp_path / "data")}
    master = gunicorn.start()
    wait_until(lambda: len(gunicorn.workers(master)) == 4, "four workers")
    for size in (1024, 2048, 4096):
        answer = ask(gunicorn.port, "POST", "/v1/dictionaries", body(ORDERS[:200], size=size), JSON)
        name = json.loads(answer.body)["id"]
        for _ in range(24):
            assert ask(gunicorn.port, "POST", f"/v1/compress?dictionary={name}", ORDERS[0], RAW).status == 200
        assert ask(gunicorn.port, "DELETE", f"/v1/dictionaries/{name}").status == 204
        for _ in range(24):
            assert ask(gunicorn.port, "POST", f"/v1/compress?dictionary={name}", ORDERS[0], RAW).status == 404


@pytest.fixture(scope="module")
def data() -> bytes:
    return dictionaries.train(4096, ORDERS[:200])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


DAMAGE: list[Callable[[Path], object]] = [
    flip,
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes()[:-1]),
    lambda path: path.write_bytes(bytes(1_000_000)),
    lambda path: replace(path, Path.mkdir),
    lambda path: replace(path, os.mkfifo),
    lambda path: replace(path, lambda link: link.symlink_to("/etc/passwd")),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_costs_one_dictionary_and_is_named_once(
    tmp_path: Path, data: bytes, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    known = Dictionaries(tmp_path / "data", 10)
    good, bad = known.add(ORDERS[0]), known.add(data)
    damage(known.folder / bad.id)
    for _ in range(2):
        assert [entry.id for entry in known.entries()] == [good.id]
        with pytest.raises(UnknownDictionaryError) as caught:
            known.prepared(bad.id)
        assert caught.value.reason == "damaged_dictionary"
    assert caplog.text.count(str(known.folder / bad.id)) == 1
    if not (known.folder / bad.id).is_dir():
        assert known.add(data).id == bad.id, "the same again makes it good"
        assert known.read(bad.id) == data
        known.remove(bad.id)
    assert known.read(good.id) == ORDERS[0]


def test_a_killed_writer_leaves_nothing_for_long(tmp_path: Path, data: bytes) -> None:
    known = Dictionaries(tmp_path, 10)
    (tmp_path / ".new-left").write_bytes(b"half")
    assert known.entries() == []
    known.add(data)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", known.entries()[0].id]


def test_the_bound_holds_for_writers_at_once(tmp_path: Path) -> None:
    results: list[bool] = []

    def add(number: int) -> None:
        try:
            Dictionaries(tmp_path, 3).add(ORDERS[number])
            results.append(True)
        except TooManyDictionariesError:
            results.append(False)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 9 + [True] * 3
    assert len(Dictionaries(tmp_path, 3).entries()) == 3


def test_a_folder_that_cannot_be_made_is_an_answer(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    from tests.app.conftest import serve_app

    (tmp_path / "file").write_text("")
    with serve_app(tmp_path_factory, DATA_DIR=str(tmp_path / "file")) as server:
        refuse(train(server, ORDERS[:100]), 507, "storage_failed")
        assert server.ask("POST", "/v1/compress", b"x", RAW).status == 200
