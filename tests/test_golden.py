"""The golden files say what Python computes today."""

import golden
import pytest


@pytest.mark.parametrize("topic", golden.topics())
def test_the_golden_file_is_what_python_computes(topic):
    stored = (golden.HERE / f"{topic}.json").read_text()
    assert stored == golden.text(topic), f"stale: run `python tests/golden {topic}`"
