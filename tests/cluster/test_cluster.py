"""The SLURM profile on a real, if small, cluster: the bytes of one machine, whatever breaks on the way."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import scoring_run
from scoring_run import CHUNKS, SCORES
from throwaway import Cluster, processes_of, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

# What differs from a real cluster: no accounting, no patience, and two cores in all.
OPTIONS = (
    "--profile", "profiles/slurm", "--slurm-status-command", "squeue", "--latency-wait", "5",
    "--slurm-init-seconds-before-status-checks", "5", "--set-threads", "score_variants=1",
)  # fmt: skip
CPU = """{slurm_partition: "'cpu'"}"""
BY_GPU = """{gpu: 1, slurm_partition: "'gpu'"}"""
BY_GRES = """{gpu: 0, gres: "'gpu:1'", slurm_partition: "'gpu'"}"""
PATIENCE = 120  # seconds for one thing to happen


def make_run(folder: Path, world: Path, local: Path, root: Path, gpu: str) -> Path:
    """A run that has its chunks, and whose profile knows the cluster."""
    made = scoring_run.make_run(folder, world, root)
    scoring_run.set_site(made, cpu=CPU, gpu=gpu)
    for part in ("raw", "genome", "variants"):
        shutil.copytree(local / "results" / part, made / "results" / part)
    return made


def check_same(folder: Path, local: Path) -> None:
    """Every file of the scores and of the calibration is that of the local run; no variant twice or never."""
    names = scoring_run.scored(folder)
    assert len(names) == len(set(names)) == 80
    assert scoring_run.digests(folder / SCORES) == scoring_run.digests(local / SCORES)
    for name in ("calibration.safetensors", "calibration.json"):
        path = Path("results/models/untrained") / name
        assert (folder / path).read_bytes() == (local / path).read_bytes()
    there = {p.name for p in (folder / "results/chunks/mine/untrained").iterdir()}
    left = {name for name in there if not name.startswith(".lock-")}  # of a process killed while it waited
    assert left == {f"{i}-of-{CHUNKS}" for i in range(1, CHUNKS + 1)}


class Driver:
    """Snakemake in the background; `log` is what it says."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder, self.cluster = folder, cluster
        self.log = folder / "driver.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                scoring_run.command(*OPTIONS), cwd=folder, stdout=log, stderr=log, start_new_session=True,
                env=scoring_run.environment(folder, cluster.environment),
            )  # fmt: skip

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def text(self) -> str:
        return self.log.read_text()

    def wait(self, ready, what: str) -> None:
        """Wait for something; an end before it is an error."""

        def stopped_or_ready() -> bool:
            assert self.process.poll() is None, f"ended before {what}\n{self.text()[-6000:]}"
            hurry(self.cluster)
            return bool(ready())

        try:
            wait_for(stopped_or_ready, what, PATIENCE)
        except TimeoutError as error:
            queue = self.cluster.ask("squeue", "--array", check=False)
            raise AssertionError(f"{error}\n{queue}\n{self.text()[-6000:]}") from None

    def scoring(self) -> list[int]:
        """Processes that score a chunk."""
        found = []
        for pid in processes_of(self.folder):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"score-variants" in command and b"python" in command[0]:
                found.append(pid)
        return found

    def finished(self) -> int:
        """Chunks that are done."""
        return len(list((self.folder / "results/chunks/mine/untrained").glob("[0-9]*-of-*/chunk.json")))


def running(cluster: Cluster) -> dict[str, str]:
    """Jobs that run, and where."""
    lines = cluster.ask("squeue", "--noheader", "--states=running", "--format=%i %N").splitlines()
    return dict(line.split() for line in lines)


def job_of(pid: int) -> str:
    """The job that a process belongs to."""
    variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return next(line.partition("=")[2] for line in variables if line.startswith("SLURM_JOB_ID="))


def hurry(cluster: Cluster) -> None:
    """Start jobs now that SLURM queued again: by itself it waits two minutes for the node to recover."""
    for job in cluster.ask("squeue", "--noheader", "--states=pending", "--format=%i %r").splitlines():
        if job.endswith("BeginTime"):
            cluster.ask("scontrol", "update", f"JobId={job.split()[0]}", "StartTime=now")


def test_scores_of_a_cluster_are_those_of_one_machine(
    cluster: Cluster, world: Path, local: Path, root: Path, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "run", world, local, root, BY_GPU)
    text = scoring_run.run(folder, scoring_run.command(*OPTIONS), cluster.environment)
    check_same(folder, local)
    jobs = cluster.ask("scontrol", "--oneliner", "show", "job").splitlines()
    scoring = [job for job in jobs if " Partition=gpu " in job]
    assert len(scoring) == CHUNKS and all("gres:gpu:1" in job for job in scoring), scoring
    assert "split_variants" not in re.findall(r"^rule (\w+):", text, re.M)


def test_whatever_breaks_the_scores_are_the_same(
    cluster: Cluster, world: Path, local: Path, root: Path, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "run", world, local, root, BY_GRES)
    with Driver(folder, cluster) as first:
        first.wait(first.scoring, "a job scores")
        killed = first.scoring()[0]
        job = job_of(killed)
        os.kill(killed, signal.SIGKILL)  # one job's process
        first.wait(lambda: set(running(cluster)) - {job}, "another job runs")
        cancelled = next(name for name in running(cluster) if name != job)
        cluster.ask("scancel", cancelled)
        first.wait(lambda: set(running(cluster)) - {job, cancelled}, "a third job runs")
        node = next(node for name, node in running(cluster).items() if name not in (job, cancelled))
        cluster.ask("scontrol", "update", f"NodeName={node}", "State=down", "Reason=test")
        first.wait(
            lambda: " Restarts=1 " in cluster.ask("scontrol", "show", "job"),
            "jobs of a node are queued again",
        )
        # It may have registered again by itself, and then there is nothing to resume.
        cluster.ask("scontrol", "update", f"NodeName={node}", "State=resume", check=False)
        first.wait(lambda: first.text().count("Trying to restart job") >= 2, "the others are submitted again")
        first.wait(lambda: first.finished() >= 2 and first.scoring(), "the middle of the run")
        assert first.finished() < CHUNKS
        first.process.kill()  # the driver
        first.process.wait()
    # docs/slurm.md: cancel what the dead driver left in the queue, remove its lock, go on.
    (name,) = set(re.findall(r"SLURM run ID: (\S+)", first.text()))
    cluster.ask("scancel", f"--name={name}")
    wait_for(lambda: not cluster.ask("squeue", "--noheader", f"--name={name}"), "its jobs are gone")
    # What the driver saw end, stays, but for one chunk at most whose first process died late and took it
    # along; what ended unseen may have told the workflow itself, or is made again.
    seen, there = first.text().count("Finished jobid"), first.finished()
    scoring_run.run(folder, scoring_run.command("--unlock"), cluster.environment)
    text = scoring_run.run(folder, scoring_run.command(*OPTIONS), cluster.environment)
    again = len(re.findall(r"^rule score_variants:", text, re.M))
    assert CHUNKS - max(seen, there) <= again <= CHUNKS - seen + 1
    check_same(folder, local)


def test_a_cluster_whose_owner_was_killed_is_stopped_by_the_next(cluster: Cluster) -> None:
    code = (
        "import time\nfrom throwaway import Cluster\n"
        "made = Cluster()\nmade.start()\nprint(made.folder, flush=True)\ntime.sleep(600)\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    owner = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert owner.stdout is not None
    left = Path(owner.stdout.readline().strip())
    owner.kill()
    owner.wait()
    assert left.is_dir() and list(processes_of(left))
    other = Cluster()
    try:
        assert not left.exists() and not list(processes_of(left))
        assert cluster.states() and cluster.folder.is_dir()  # that of a living owner stays
    finally:
        other.stop()
