from __future__ import annotations

import pytest

from kinema.errors import UsageError
from kinema.messages import SamplingParams


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"repetition_penalty": 0},
        {"max_new_tokens": 0},
        {"min_new_tokens": 9, "max_new_tokens": 8},
        {"logprobs": -1},
        {"stop": ("",)},
    ],
)
def test_sampling_parameters_outside_their_range_are_named(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SamplingParams(**wrong)
