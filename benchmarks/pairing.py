"""Paired timings: implementations take turns in one run, so that a busy machine is unfair to none.

Every implementation lives in a worker process (worker.py) and an interpreter of its own. A round asks each
for one pass, in turn, while the others sleep; the order turns round by round. What is told is the ratio of
seconds within a round: its median, and its range.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from implementations import IMPLEMENTATIONS, JUNCTIONS, Job

from megabase.model.sizes import PUBLISHED_CHANNELS

HERE = Path(__file__).resolve().parent
OWN = "megabase"
PUBLISHED = {str(output): n for output, n in PUBLISHED_CHANNELS.items()}


class WorkerError(RuntimeError):
    """A worker ended before it answered."""


@dataclass
class Worker:
    """One implementation in its interpreter, and what it answered."""

    name: str
    python: str
    job: Job
    threads: int
    about: dict[str, Any] = field(default_factory=dict)
    passes: list[dict[str, float | None]] = field(default_factory=list)

    def start(self) -> None:
        """Start the process and wait until its model stands."""
        command = [self.python, str(HERE / "worker.py"), self.name, json.dumps(asdict(self.job))]
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self.about = self._answer()

    def run(self, keep: bool = True) -> None:
        """One pass; `keep` it, or forget it (the first is warm-up)."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found = self._answer()
        if keep:
            self.passes.append(found)

    def stop(self) -> None:
        """End the process."""
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait(timeout=60)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            raise WorkerError(
                f"{self.name}: the worker {self.python} ended with exit status {code}; see above"
            )
        return json.loads(line)


def take_turns(workers: Sequence[Worker], rounds: int) -> None:
    """Warm all up, then `rounds` rounds of one pass each, in an order that turns."""
    for worker in workers:
        worker.run(keep=False)
    for number in range(rounds):
        first = number % len(workers)
        for worker in [*workers[first:], *workers[:first]]:
            worker.run()


def summary(workers: Sequence[Worker]) -> list[dict[str, Any]]:
    """A row an implementation: median seconds, peak GB, and the ratio of the first's seconds to its own.

    ratio is the median over rounds, low and high its range; below 1, the first worker is faster.
    """
    rows = []
    for worker in workers:
        ratios = [a["seconds"] / b["seconds"] for a, b in zip(workers[0].passes, worker.passes, strict=True)]
        peaks = [p["peak_gb"] for p in worker.passes if p["peak_gb"] is not None]
        rows.append(
            worker.about
            | {
                "seconds": statistics.median(p["seconds"] for p in worker.passes),
                "peak_gb": max(peaks) if peaks else None,
                "ratio": statistics.median(ratios),
                "low": min(ratios),
                "high": max(ratios),
            }
        )
    return rows


def markdown(job: Job, rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table, under a line that says what was timed."""
    heads = "all heads" if job.junctions else "all heads but the junctions"
    heads += f", recompute_bases {job.recompute}" if job.recompute else ""
    lines = [
        f"{job.task}, {job.length:,} bp, {job.precision}, {heads}, {rows[0]['device']}, "
        f"{rows[0]['threads']} threads, torch {rows[0]['torch']}",
        "",
        "| implementation | seconds | peak GB | megabase's share of its time |",
        "|---|---|---|---|",
    ]
    for row in rows:
        memory = "-" if row["peak_gb"] is None else f"{row['peak_gb']:.1f}"
        share = f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        lines.append(f"| {row['name']} {row['version']} | {row['seconds']:.2f} | {memory} | {share} |")
    return "\n".join(lines)


def opponent(text: str) -> tuple[str, str]:
    """NAME=PYTHON -> (name, interpreter)."""
    name, _, python = text.partition("=")
    if name not in IMPLEMENTATIONS or not python:
        raise argparse.ArgumentTypeError(
            f"{text!r}: wanted NAME=PYTHON, NAME of {', '.join(IMPLEMENTATIONS)}"
        )
    return name, python


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options that both timings share."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ", ".join(IMPLEMENTATIONS)
    options.add_argument("--against", type=opponent, action="append", default=[], metavar="NAME=PYTHON",
                         help=f"implementation ({known}) and the interpreter that has it")  # fmt: skip
    options.add_argument("--length", type=int, action="append", help="window (bp); repeat; default 16384")
    options.add_argument("--heads", choices=["all", "no-junctions"], action="append", help="default: both")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options.add_argument("--device", default="cpu")
    options.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    options.add_argument("--recompute", type=int, default=0,
                         help="megabase's train.recompute_bases in a training step")  # fmt: skip
    options.add_argument("--json", type=Path, help="also write every pass there")
    return options


def compare(task: str, arguments: argparse.Namespace) -> None:
    """Time `task` for every length and choice of heads, print the tables, write the passes."""
    pythons = {OWN: sys.executable} | dict(arguments.against)
    kept = []
    for length in arguments.length or [16_384]:
        for heads in arguments.heads or ["no-junctions", "all"]:
            channels = {name: n for name, n in PUBLISHED.items() if heads == "all" or name != JUNCTIONS}
            job = Job(task, length, channels, max(8, length // 2048), arguments.device, arguments.precision,
                      arguments.recompute)  # fmt: skip
            workers = [Worker(name, python, job, arguments.threads) for name, python in pythons.items()]
            try:
                for worker in workers:
                    worker.start()
                take_turns(workers, arguments.rounds)
            finally:
                for worker in workers:
                    if hasattr(worker, "process"):
                        worker.stop()
            rows = summary(workers)
            print(markdown(job, rows), "\n", flush=True)
            kept.append({"job": asdict(job), "rows": rows, "passes": {w.name: w.passes for w in workers}})
    if arguments.json:
        arguments.json.write_text(json.dumps(kept, indent=1) + "\n")
