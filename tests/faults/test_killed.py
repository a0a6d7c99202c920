"""Each verb killed at random points and resumed ends with the bytes of a run left alone.

``benchmarks/kills.py`` is the same at full size.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.killed import KILLS, Work, kill_and_compare, make_works

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Work]:
    return make_works(tmp_path_factory.mktemp("works"))


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_captions(works: dict[str, Work], tmp_path: Path) -> None:
    assert kill_and_compare(works["caption"], tmp_path)["kills_that_struck"] == KILLS
    records = lines(tmp_path / "cut" / "captions.jsonl")
    assert len({c["text"] for record in records for c in record["captions"]}) > 3


def test_answers_with_log_probabilities(works: dict[str, Work], tmp_path: Path) -> None:
    """They are numbers, so their requests run alone, and no neighbour moves their last digits."""
    assert kill_and_compare(works["answer"], tmp_path)["kills_that_struck"] == KILLS
    records = lines(tmp_path / "cut" / "out.jsonl")
    assert [record["text"] for record in records] == [f"Question {i}" for i in range(24)]
    assert all(len(record["logprobs"]) > 0 for record in records)
    assert all(len(token["alternatives"]) == 2 for r in records for token in r["logprobs"])


def test_evaluations_in_batches_and_by_ranked_options(
    works: dict[str, Work], tmp_path: Path
) -> None:
    """Texts come in batches of four; ranked options are numbers."""
    assert kill_and_compare(works["eval"], tmp_path)["kills_that_struck"] == KILLS
    (predictions,) = (tmp_path / "cut").glob("*/predictions.jsonl")
    said = [record["prediction"] for record in lines(predictions)]
    ranked = [i for i, prediction in enumerate(said) if prediction["option_scores"] is not None]
    assert {*ranked} <= {*range(1, 24, 2)}
    assert len(ranked) >= 6  # of twelve; no letter is among the likeliest tokens of the others
    assert len({p["reply"] for p in said[::2]}) > 1


def test_features(works: dict[str, Work], tmp_path: Path) -> None:
    assert kill_and_compare(works["features"], tmp_path)["kills_that_struck"] == KILLS
    assert len(works["features"].read(tmp_path / "cut")) == 2 * 12 + 1
