"""Plans in staging: what counts as one, and what is left when a clear is cut short."""

import pytest
from fakes import SETTINGS

from embarchive.errors import BadInput, StoreUnreachable
from embarchive.recipe import Recipe
from embarchive.staging import MODEL_KEYS, JobPlan, Staging, read_plan, write_plan
from embarchive.store import LocalStore, open_store

MODEL = {key: getattr(Recipe(), key) for key in MODEL_KEYS}


def make_plan(parent=0):
    return JobPlan(({"source": "scene"},), SETTINGS, MODEL, parent)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "archive")


def test_a_plan_is_read_back_by_the_start_of_its_name(store):
    staging = write_plan(store, make_plan())
    other = write_plan(store, make_plan(parent=1))
    assert read_plan(store, staging.plan_id[:12]) == (staging, make_plan())
    with pytest.raises(BadInput, match="expected one plan in staging, found"):
        read_plan(store, None)
    other.clear()
    assert read_plan(store, None) == (staging, make_plan())


def test_only_plans_count_as_plans(store):
    store.put_new("staging/probe-0123456789abcdef", b"probe")
    store.put_new(f"staging/{'a' * 64}/train/base.json", b"{}")
    with pytest.raises(BadInput, match="found none"):
        read_plan(store, None)
    staging = write_plan(store, make_plan())
    assert read_plan(store, None)[0] == staging


class Cut(LocalStore):
    """A store that is gone after some deletes."""

    left = 0

    def delete(self, path):
        if self.left == 0:
            raise StoreUnreachable(f"{path}: gone")
        self.left -= 1
        super().delete(path)


@pytest.mark.parametrize("deletes", [0, 1, 2])
def test_a_clear_that_is_cut_short_leaves_a_whole_plan_or_none(tmp_path, deletes):
    cut = Cut(tmp_path)
    staging = write_plan(cut, make_plan())
    for name in ("one", "two"):
        staging.write("encode", name, {"rows": 1})
    cut.left = deletes
    with pytest.raises(StoreUnreachable):
        staging.clear()
    if deletes:
        with pytest.raises(BadInput, match="expected one plan in staging, found none"):
            read_plan(cut, None)
    else:
        assert read_plan(cut, None)[0].read("encode", "one") == {"rows": 1}


def test_a_cleared_plan_leaves_nothing(store, tmp_path):
    staging = write_plan(store, make_plan())
    Staging(store, staging.plan_id).write("train", "base", {})
    staging.clear_if_idle()
    assert read_plan(store, None)[0] == staging
    staging.clear()
    assert list((tmp_path / "archive").iterdir()) == []
