"""Slurm on one machine: its daemons and munge's, in a folder, for the user who runs the tests."""

import os
import pwd
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from s3server import free_ports

PROGRAMS = "munged slurmctld slurmd sbatch scontrol"
# As docs/cluster.md has them. What the node has is stated, not found: tasks share what there is.
SETTINGS = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=32000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Programs of Slurm and munge that are not installed."""
    return [name for name in PROGRAMS.split() if not _program(name)]


@contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which `sbatch` finds a cluster, whose one node is up."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o755)  # munge trusts no folder that others may write to
    key, settings = folder / "munge.key", folder / "slurm.conf"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    user, host = pwd.getpwuid(os.getuid()).pw_name, os.uname().nodename.partition(".")[0]
    settings.write_text(
        SETTINGS.format(user=user, host=host, folder=folder, ports=free_ports(2)), encoding="utf-8"
    )
    env = {**os.environ, "SLURM_CONF": str(settings)}
    lines = [
        ["munged", "--foreground", "--force", f"--key-file={key}",
         f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid",
         f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"],
        ["slurmctld", "-D", "-c", "-f", str(settings)],
        ["slurmd", "-D", "-f", str(settings)],
    ]  # fmt: skip
    with (folder / "daemons.log").open("wb") as out, ExitStack() as stack:
        for line in lines:
            program = [_program(line[0]) or line[0], *line[1:]]
            child = subprocess.Popen(program, env=env, stdout=out, stderr=subprocess.STDOUT)
            stack.callback(_end, child)
            if line[0] == "munged":
                _until(lambda: (folder / "munge.socket").exists(), folder)
        _until(lambda: "State=IDLE" in said(env, "show", "node"), folder)
        yield env


def said(env: dict[str, str], *words: str) -> str:
    """What scontrol says, "" when it fails."""
    line = ["scontrol", *words]
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout if not done.returncode else ""


def states(env: dict[str, str]) -> dict[str, list[str]]:
    """By the name of a job, the states that its tasks are in."""
    found: dict[str, list[str]] = {}
    for line in said(env, "show", "job", "--oneliner").splitlines():
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if "JobName" in words:
            found.setdefault(words["JobName"], []).append(words["JobState"])
    return found


def processes(env: dict[str, str], name: str) -> list[int]:
    """Process ids of the tasks of a job that run on this node."""
    found = []
    wanted = {f"SLURM_CONF={env['SLURM_CONF']}".encode(), f"SLURM_JOB_NAME={name}".encode()}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            held = set((entry / "environ").read_bytes().split(b"\0"))
        except OSError:
            continue
        if wanted <= held:
            found.append(int(entry.name))
    return found


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _until(happens: Callable[[], bool], folder: Path) -> None:
    until = time.monotonic() + 60
    while not happens():
        logs = [path.read_text(errors="replace")[-1500:] for path in folder.glob("*.log")]
        assert time.monotonic() < until, "\n".join(logs)
        time.sleep(0.2)
