"""``prefetch`` keeps order, holds little, passes errors on and leaves no thread behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from kinema.video.prefetch import prefetch


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert num_threads() == 0


def num_threads() -> int:
    return sum(thread.name.startswith("kinema-prefetch") for thread in threading.enumerate())


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
    fourth, fifth = threading.Event(), threading.Event()

    def load(item: int) -> int:
        if item >= 3:
            (fourth if item == 3 else fifth).set()
        return item

    results = prefetch(range(100), load, depth=2)
    assert next(results) == 0
    assert fourth.wait(timeout=10)  # one used, two waiting, one in the making
    assert not fifth.wait(timeout=0.1)
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("taken", [1, 3])
def test_leaving_early_stops_the_thread(taken: int) -> None:
    loaded: list[int] = []

    def load(item: int) -> int:
        loaded.append(item)
        return item

    results = prefetch(range(100), load, depth=1)
    assert [next(results) for _ in range(taken)] == list(range(taken))
    assert num_threads() == 1
    results.close()  # type: ignore[attr-defined]
    assert num_threads() == 0
    assert len(loaded) <= taken + 2  # one waiting, one in the making


def test_an_error_is_raised_at_its_place() -> None:
    def load(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    results = prefetch(range(5), load)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
