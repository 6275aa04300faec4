"""What a running job leaves under `staging/<plan sha256>/`: its plan and a record a finished step.

A record is written last, when what it names is on the store, so that a step that was killed
is simply done again and one that finished is never repeated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from embarchive import digests
from embarchive.errors import BadInput, Missing
from embarchive.recipe import Recipe, Settings
from embarchive.storage import Store
from embarchive.strictjson import canonical_json, parse_strict_json

VERSION = 1
MAX_RECORD = 256 << 20
_PLAN = re.compile(r"staging/([0-9a-f]{64})/plan\.json")
MODEL_KEYS = (
    "dim", "bits", "codec", "quality", "weights", "steps", "adapter_steps", "batch", "beta",
    "index_weight", "seed", "drift", "encoder", "radius", "temporal",
)  # fmt: skip


@dataclass(frozen=True)
class JobPlan:
    """What a build will do, decided once and read by every part.

    scenes: `scene_to_json` values; model: the recipe's [model] values; parent: generation
    that the plan adds to, 0 for a new archive; reencode: into a new space.
    """

    scenes: tuple[dict[str, Any], ...]
    settings: Settings
    model: dict[str, Any]
    parent: int
    reencode: bool = False

    @property
    def first(self) -> bool:
        """Whether the plan trains the networks of a space, rather than use the archive's."""
        return self.parent == 0 or self.reencode

    @property
    def recipe(self) -> Recipe:
        """The model part of the recipe."""
        return Recipe(**self.model)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        values = asdict(self) | {"settings": self.settings.to_json(), "scenes": list(self.scenes)}
        return canonical_json({"format": "embarchive", "version": VERSION, **values})


@dataclass(frozen=True)
class Staging:
    """The records of one plan on one store."""

    store: Store
    plan_id: str

    def path(self, step: str, name: str) -> str:
        """Where the record of a step lies."""
        return f"staging/{self.plan_id}/{step}/{name}.json"

    def write(self, step: str, name: str, values: Mapping[str, Any]) -> None:
        """Record a finished step."""
        self.store.put_new(self.path(step, name), canonical_json(dict(values)))

    def read(self, step: str, name: str) -> dict[str, Any] | None:
        """The record of a step, None when it is not done yet."""
        path = self.path(step, name)
        try:
            data = self.store.get(path, limit=MAX_RECORD)
        except Missing:
            return None
        return dict(parse_strict_json(data, path, MAX_RECORD))

    def clear_if_idle(self) -> None:
        """Remove the plan when no step of it has left a record."""
        if len(self.store.list(f"staging/{self.plan_id}")) == 1:
            self.clear()

    def clear(self) -> None:
        """Remove the plan, then its records: killed in between, it leaves records that nobody
        reads rather than a plan whose finished steps look undone."""
        entries = self.store.list(f"staging/{self.plan_id}")
        self.store.delete(f"staging/{self.plan_id}/plan.json")
        for entry in entries:
            self.store.delete(entry.path)


def write_plan(store: Store, plan: JobPlan) -> Staging:
    """Write a plan; the same plan gives the same staging, with what is done already."""
    data = plan.to_bytes()
    staging = Staging(store, digests.sha256(data))
    store.put_new(f"staging/{staging.plan_id}/plan.json", data)
    return staging


def read_plan(store: Store, plan_id: str | None) -> tuple[Staging, JobPlan]:
    """The plan of that name, or the only one there is. Raises BadInput."""
    plans = (_PLAN.fullmatch(entry.path) for entry in store.list("staging"))
    found = sorted(plan[1] for plan in plans if plan)
    matches = [name for name in found if plan_id is None or name.startswith(plan_id)]
    if len(matches) != 1:
        said = "one plan" if plan_id is None else f"one plan {plan_id}"
        have = ", ".join(name[:12] for name in matches or found) or "none"
        raise BadInput(f"{store.root}: expected {said} in staging, found {have}")
    path = f"staging/{matches[0]}/plan.json"
    data = store.get(path, limit=MAX_RECORD)
    if digests.sha256(data) != matches[0]:
        raise BadInput(f"{path}: expected the plan of that hash, found another")
    values = parse_strict_json(data, path, MAX_RECORD)
    values = {key: values[key] for key in (f.name for f in fields(JobPlan))}
    values["settings"] = Settings.from_json(values["settings"])
    return Staging(store, matches[0]), JobPlan(**values | {"scenes": tuple(values["scenes"])})


def region_record(region: str) -> str:
    """The record's name of a region, whose own name may hold any character."""
    return f"region-{digests.sha256(region.encode())[:16]}"
