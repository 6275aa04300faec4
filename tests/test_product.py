"""Scenes as job plans keep them."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarchive.errors import BadInput
from embarchive.product import Band, CloudLayer, Scene, scene_from_json, scene_to_json

numbers = st.floats(-1e6, 1e6)
bands = st.builds(
    Band, st.text(), st.text(), st.integers(1, 99), numbers, numbers, st.none() | numbers
)
clouds = st.builds(
    CloudLayer, st.text(), st.just(1), st.sampled_from(["bits", "classes"]), st.just((1, 3))
)
scenes = st.builds(
    Scene,
    source=st.text(),
    datetime=st.none() | st.datetimes(timezones=st.just(UTC)),
    bands=st.lists(bands, max_size=3).map(tuple),
    cloud=st.none() | clouds,
    gsd=numbers,
    bounds=st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=2).map(tuple),
    units=st.text(),
    attribution=st.text(),
    licence=st.text(),
)


@given(scenes)
def test_a_scene_comes_back_from_its_json(scene):
    assert scene_from_json(json.loads(json.dumps(scene_to_json(scene)))) == scene


def test_a_plan_with_a_field_missing_is_refused():
    scene = Scene("s", datetime(2023, 1, 1, tzinfo=UTC), (), None, 1.0, (), "stored", "", "")
    values = scene_to_json(scene)
    del values["gsd"]
    with pytest.raises(BadInput, match="gsd"):
        scene_from_json(values)
