"""A few hundred damaged inputs; the long run is ``python benchmarks/robustness.py``."""

from __future__ import annotations

from pathlib import Path

from faults.mutate import DAMAGES, examine_all, make_corpus, make_input


def test_damaged_inputs_end_in_frames_or_typed_errors(tmp_path: Path) -> None:
    result = examine_all(range(20_000, 20_400), tmp_path)
    assert result.count == 400
    assert result.is_clean, result
    assert result.worker_crashes == []
    # The damage is neither so mild that all is read nor so coarse that nothing is.
    assert min(result.outcomes["frames"], result.outcomes["frames with warnings"]) > 20
    assert len(result.outcomes) >= 6


def test_an_input_is_told_by_its_number() -> None:
    corpus = make_corpus()
    first, again = make_input(7, corpus), make_input(7, corpus)
    assert first == again
    assert first.data != corpus[first.origin]
    used = {name for number in range(60) for name in make_input(number, corpus).damages}
    assert used == {damage.__name__ for damage in DAMAGES}
