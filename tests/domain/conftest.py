"""How long Hypothesis looks for counterexamples: HYPOTHESIS_PROFILE=thorough looks for minutes."""

import os

import pytest
from hypothesis import settings

settings.register_profile("default", max_examples=500, stateful_step_count=50, deadline=None, print_blob=True)
settings.register_profile(
    "thorough", settings.get_profile("default"), max_examples=5_000, stateful_step_count=80
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

pytest.register_assert_rewrite("tests.domain.laws")
