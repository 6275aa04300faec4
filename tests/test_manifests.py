"""Templates of cluster jobs: they are well-formed, and their steps make the archive of a build."""

import copy
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import slurmcluster
import yaml
from test_buckets import names
from test_engine import SMALL, content, settled, toml, waiting
from test_jobs import quiet, write_scene

from embarchive import jobs
from embarchive.cli import cli, main
from embarchive.store import open_store

TEMPLATES = Path(__file__).parent.parent / "manifests" / "cluster"
SCHEMAS = Path(__file__).parent / "schemas"
SLURM = TEMPLATES / "slurm.sh"
# Runs a job at once, each task of an array in its turn, as sbatch would later.
SBATCH = """#!/usr/bin/env bash
set -eu
echo "$*" >>"$LOG"
last=0
while [[ $1 == --* ]]; do
  case $1 in --array=0-*) last=${1#--array=0-}; last=${last%%%*} ;; esac
  shift
done
for ((task = 0; task <= last; task++)); do SLURM_ARRAY_TASK_ID=$task bash "$@" >&2; done
wc -l <"$LOG"
"""


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((TEMPLATES / name).read_text(encoding="utf-8")))


def schema(name: str) -> jsonschema.protocols.Validator:
    found = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def by_step() -> dict[str, dict[str, Any]]:
    found = documents("indexed-job.yaml")
    return {one["metadata"]["labels"]["embarchive/step"]: one for one in found}


@pytest.mark.parametrize(
    ("name", "against"), [("indexed-job.yaml", "kubernetes"), ("rayjob.yaml", "rayjob")]
)
def test_templates_are_what_the_cluster_takes(name: str, against: str) -> None:
    for document in documents(name):
        schema(against).validate(document)


def test_the_schemas_refuse_what_a_cluster_would() -> None:
    job, ray = by_step()["encode"], documents("rayjob.yaml")[0]
    wrong = []
    for key, value in (("completions", 0), ("completionMode", "NonIndexed"), ("retries", 3)):
        wrong.append(copy.deepcopy(job))
        wrong[-1]["spec"][key] = value
    wrong.append(copy.deepcopy(job))
    wrong[-1]["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
    assert not any(schema("kubernetes").is_valid(one) for one in wrong)
    ray["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    assert not schema("rayjob").is_valid(ray)


def test_an_indexed_job_has_an_index_a_part() -> None:
    steps = by_step()
    assert list(steps) == ["settings", "plan", "backbone", "train", "encode", "commit"]
    parts = int(steps["settings"]["data"]["PARTS"])
    indexed = {name for name, job in steps.items() if "completions" in job.get("spec", {})}
    assert indexed == {"train", "encode"}
    assert {steps[name]["spec"]["completions"] for name in indexed} == {parts}


def test_the_ray_job_asks_for_no_more_workers_than_its_cluster_has() -> None:
    spec = documents("rayjob.yaml")[0]["spec"]
    words = shlex.split(spec["entrypoint"])
    context = cli.commands["build"].make_context("build", words[2:])
    assert words[:2] == ["embarchive", "build"]
    assert (context.params["engine"], context.params["ray_address"]) == ("ray", "auto")
    groups = spec["rayClusterSpec"]["workerGroupSpecs"]
    cores = sum(group["replicas"] * int(group["rayStartParams"]["num-cpus"]) for group in groups)
    assert context.params["workers"] == cores


def test_the_ray_of_the_template_is_the_one_tested() -> None:
    pinned = (Path(__file__).parent.parent / "constraints.txt").read_text(encoding="utf-8")
    version = documents("rayjob.yaml")[0]["spec"]["rayClusterSpec"]["rayVersion"]
    assert re.search(rf"^ray=={re.escape(version)}$", pinned, re.MULTILINE)


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """The environment of a small job in two parts, whose `embarchive` notes what it was asked."""
    programs = tmp_path / "bin"
    programs.mkdir()
    noted = f"#!{sys.executable}\nimport os, sys\nwith open(os.environ['ASKED'], 'a') as out:\n"
    noted += "    print(*sys.argv[1:], sep='\\t', file=out)\nsys.exit(int(os.environ['STATUS']))\n"
    for name, text in (("embarchive", noted), ("sbatch", SBATCH)):
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "ASKED": str(tmp_path / "asked"),
        "LOG": str(tmp_path / "sbatch.log"),
        "STATUS": "0",
        "ARCHIVE": str(tmp_path / "archive"),
        "SCENES": str(write_scene(tmp_path / "field_20230601.tif", 1)),
        "PARTS": "2",
        "WAIT": "0",
    }


def asked(job: dict[str, str]) -> list[list[str]]:
    """What `embarchive` was asked, in order."""
    lines = Path(job["ASKED"]).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines]


def in_turn(job: dict[str, str]) -> list[list[str]]:
    out, parts = job["ARCHIVE"], ("0/2", "1/2")
    return [
        ["plan", job["SCENES"], "--out", out, "--parts", "2"],
        ["train", out, "--backbone"],
        *(["train", out, "--part", part] for part in parts),
        *(["encode", out, "--part", part] for part in parts),
        ["commit", out],
    ]


def bash(job: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    line = ["bash", str(SLURM), *words]
    return subprocess.run(line, env=job, capture_output=True, text=True, timeout=100)


def test_the_slurm_script_asks_for_the_steps_in_turn(job: dict[str, str]) -> None:
    assert not subprocess.run(["bash", "-n", SLURM]).returncode
    done = bash(job, "submit")
    assert not done.returncode, done.stderr
    steps = ["plan", "backbone", "train", "encode", "commit"]
    assert done.stdout.splitlines() == [f"{step}: job {n}" for n, step in enumerate(steps, 1)]
    handed = Path(job["LOG"]).read_text().splitlines()
    arrays = ["--array=0-1%16" in line for line in handed]
    assert arrays == [step in ("train", "encode") for step in steps]
    waits = [re.findall(r"--dependency=(\S+)", line) for line in handed]
    assert waits == [[], *([f"afterok:{n}"] for n in range(1, 5))]
    assert asked(job) == in_turn(job)


def test_the_indexed_jobs_ask_for_the_steps_in_turn(job: dict[str, str]) -> None:
    for document in list(by_step().values())[1:]:
        run = document["spec"]["template"]["spec"]["containers"][0]
        for index in range(2 if "completions" in document["spec"] else 1):
            env = job | {"JOB_COMPLETION_INDEX": str(index)}
            subprocess.run([*run["command"], *run["args"]], env=env, check=True, timeout=100)
    assert asked(job) == in_turn(job)


def test_those_steps_give_the_archive_of_a_build(job: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(toml(SMALL), encoding="utf-8")
    assert not bash(job | {"RECIPE": str(tmp_path / "recipe.toml")}, "submit").returncode
    steps = asked(job)
    assert steps[0][-2:] == ["--recipe", str(tmp_path / "recipe.toml")]
    # As each node would, but without seven starts of Python.
    assert [main([*step, "--quiet"]) for step in steps] == [0] * 7
    jobs.build([job["SCENES"]], str(tmp_path / "built"), SMALL, progress=quiet)
    assert content(Path(job["ARCHIVE"])) == content(tmp_path / "built")
    assert main([*steps[-1], "--quiet"]) == 2


def test_the_slurm_script_tries_again_and_then_fails(job: dict[str, str]) -> None:
    done = bash(job | {"STATUS": "2", "TRIES": "2"}, "commit")
    assert done.returncode == 1
    assert asked(job) == [["commit", job["ARCHIVE"]]] * 2
    assert "embarchive commit: try 2 of 2 failed" in done.stderr
    assert bash(job, "other").returncode == 2
    assert bash(job | {"ARCHIVE": ""}, "commit").returncode


# ------------------------------------------------------------ Slurm itself


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a small job in three parts on a real Slurm, in a folder that is empty."""
    if os.environ.get("EMBARCHIVE_SLURM") != "1":
        pytest.skip("`make slurm` runs this: it needs Debian's slurm-wlm and munge")
    assert not slurmcluster.missing()
    (tmp_path / "recipe.toml").write_text(toml(SMALL), encoding="utf-8")
    (tmp_path / "cluster").mkdir()
    with slurmcluster.running(tmp_path / "cluster") as env:
        scripts = sysconfig.get_path("scripts")
        yield env | {
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "ARCHIVE": str(tmp_path / "archive"),
            "SCENES": str(write_scene(tmp_path / "field_20230601.tif", 1)),
            "RECIPE": str(tmp_path / "recipe.toml"),
            "PARTS": "3",
            "TRIES": "1",
        }


def submitted(slurm: dict[str, str]) -> None:
    line = ["bash", str(SLURM), "submit"]
    out = Path(slurm["SCENES"]).parent
    subprocess.run(line, env=slurm, cwd=out, check=True, capture_output=True, timeout=60)


def ended(slurm: dict[str, str]) -> dict[str, list[str]]:
    """The states of all jobs, once none waits or runs."""
    for _ in waiting(250, 1.0):
        found = slurmcluster.states(slurm)
        if not {"PENDING", "RUNNING", "COMPLETING"} & {
            one for some in found.values() for one in some
        }:
            break
    return found


def logs(slurm: dict[str, str]) -> str:
    return "".join(path.read_text() for path in Path(slurm["SCENES"]).parent.glob("slurm-*.out"))


@pytest.mark.parametrize("where", ["a folder", "a bucket"])
def test_slurm_runs_the_arrays_and_gives_the_archive_of_a_build(
    slurm: dict[str, str], where: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    env: dict[str, str] = {}
    if where == "a bucket":
        env = request.getfixturevalue("weed").environment()
        slurm |= env | {"ARCHIVE": "s3://bucket/by/slurm"}
    submitted(slurm)
    done = {f"embarchive-{step}": ["COMPLETED"] for step in ("plan", "backbone", "commit")}
    done |= {f"embarchive-{step}": ["COMPLETED"] * 3 for step in ("train", "encode")}
    assert ended(slurm) == done, logs(slurm)
    jobs.build([slurm["SCENES"]], str(tmp_path / "built"), SMALL, progress=quiet)
    assert names(open_store(slurm["ARCHIVE"], env=env)) == names(open_store(tmp_path / "built"))


def test_a_task_that_slurm_lost_is_done_when_submitted_again_and_nothing_else(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    submitted(slurm)
    archive = Path(slurm["ARCHIVE"])
    for _ in waiting(250):
        if list(archive.glob("staging/*/encode/*.json")):
            break
    for process in slurmcluster.processes(slurm, "embarchive-encode"):
        os.kill(process, signal.SIGKILL)
    found = ended(slurm)
    assert "FAILED" in found["embarchive-encode"], logs(slurm)
    assert found["embarchive-commit"] == ["CANCELLED"]
    assert not (archive / "embarchive.json").exists()
    kept = settled(archive)
    assert 0 < len(kept) < 12
    submitted(slurm)
    assert ended(slurm)["embarchive-commit"] == ["CANCELLED", "COMPLETED"], logs(slurm)
    after = {path: path.stat().st_mtime_ns for path in archive.glob("embeddings/*/*")}
    assert after.items() >= kept.items() and len(after) == 12
    jobs.build([slurm["SCENES"]], str(tmp_path / "built"), SMALL, progress=quiet)
    assert content(archive) == content(tmp_path / "built")


def test_the_slurm_of_the_docs_is_the_one_tested() -> None:
    shown = (TEMPLATES.parent.parent / "docs" / "cluster.md").read_text(encoding="utf-8")
    told = slurmcluster.SETTINGS.format(
        host="HOST", user="root", folder="/srv/slurm", ports=(6817, 6818)
    )
    assert f"```\n{told}```" in shown
