"""One implementation in an interpreter of its own: `python benchmarks/worker.py NAME JOB`, JOB as JSON.

Answers on the standard output with one line of JSON: first what it is (versions, device), then, for each line
that it reads, the seconds and the peak memory (GB, weights and all) of one pass. Whatever an implementation
prints goes to the standard error.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from implementations import IMPLEMENTATIONS, Job

GB = 1e9


def installed(package: str) -> str:
    """Version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def reset_peak(device: str) -> None:
    """Start a new peak of memory."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak of the resident set starts anew


def peak(device: str) -> float | None:
    """Peak memory since `reset_peak` (GB); None where the system does not tell."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / GB
    if not Path("/proc/self/status").exists():
        return None
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / GB for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Serve passes until the input ends."""
    name, job = sys.argv[1], Job(**json.loads(sys.argv[2]))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    run = IMPLEMENTATIONS[name](job)
    answer(
        name=name, version=installed(name), torch=torch.__version__, python=platform.python_version(),
        threads=torch.get_num_threads(),
        device="cpu" if job.device == "cpu" else torch.cuda.get_device_name(),
    )  # fmt: skip
    for _ in sys.stdin:
        reset_peak(job.device)
        start = time.perf_counter()
        run()
        if job.device != "cpu":
            torch.cuda.synchronize()
        answer(seconds=time.perf_counter() - start, peak_gb=peak(job.device))


if __name__ == "__main__":
    main()
