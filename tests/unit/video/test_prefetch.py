"""``prefetch`` keeps order, holds little, passes errors on and leaves no thread behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from kinema.video.prefetch import prefetch


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [t for t in threading.enumerate() if t.name.startswith("kinema-prefetch")]


@pytest.mark.parametrize("depth", [1, 2, 10])
@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_results_come_in_order(depth: int, count: int) -> None:
    assert list(prefetch(range(count), lambda i: i * i, depth=depth)) == [
        i * i for i in range(count)
    ]


def test_loading_goes_on_while_the_result_is_used() -> None:
    second_loaded = threading.Event()

    def load(item: int) -> int:
        if item == 1:
            second_loaded.set()
        return item

    results = prefetch([0, 1], load, depth=1)
    assert next(results) == 0
    assert second_loaded.wait(timeout=10)
    assert list(results) == [1]


def test_no_more_than_the_depth_is_loaded_ahead() -> None:
    loaded: list[int] = []
    blocked = threading.Event()

    def load(item: int) -> int:
        loaded.append(item)
        if len(loaded) == 4:
            blocked.set()
        return item

    results = prefetch(range(100), load, depth=2)
    next(results)
    assert blocked.wait(timeout=10)
    assert len(loaded) <= 4  # one used, two waiting, one in the making
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("taken", [1, 3])
def test_leaving_early_stops_the_thread(taken: int) -> None:
    results = prefetch(range(4), lambda i: i, depth=1)
    for _ in range(taken):
        next(results)
    results.close()  # type: ignore[attr-defined]


def test_an_error_is_raised_at_its_place() -> None:
    def load(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    results = prefetch(range(5), load)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
