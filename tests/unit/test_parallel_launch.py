"""Commands that start many processes: torchrun on one node, srun on several."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from megabase.parallel import launch


def test_one_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "execvpe", lambda *_: pytest.fail("started again"))
    launch.launch(1, 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    launch.launch(8, 2)
    with pytest.raises(ValueError, match="--processes 0 --nodes 1: wanted at least 1"):
        launch.launch(0)


def test_processes_of_one_node_are_started_by_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list = []
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    monkeypatch.setattr(sys, "argv", ["megabase", "train-teacher", "a store", "--processes", "4"])
    monkeypatch.setattr(os, "execvpe", lambda *given: started.append(given))
    launch.launch(4)
    program, command, environment = started[0]
    assert program == sys.executable and environment["OMP_NUM_THREADS"] == "1"
    assert command[1:5] == ["-m", "torch.distributed.run", "--nproc-per-node=4", "--standalone"]
    assert command[5:] == ["-m", "megabase", "train-teacher", "a store", "--processes", "4"]


def test_nodes_of_a_slurm_job_get_one_task_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$3" = "gpu[07-08]" ] && printf "gpu07\\ngpu08\\n"\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    job = {"SLURM_JOB_ID": "1040123", "SLURM_JOB_NODELIST": "gpu[07-08]", "SLURM_CPUS_PER_TASK": "64"}
    command = launch.agents(["train-teacher"], 8, 2, job)
    assert command[0] == "srun" and {"--nodes=2", "--ntasks=2", "--ntasks-per-node=1"} <= set(command)
    assert "--cpus-per-task=64" in command and "--nproc-per-node=8" in command and "--nnodes=2" in command
    assert "--rdzv-endpoint=gpu07:20123" in command and "--rdzv-id=1040123" in command
    assert "--standalone" not in command and command[-3:] == ["-m", "megabase", "train-teacher"]
    with pytest.raises(ValueError, match="--nodes 2: not inside a SLURM job"):
        launch.agents(["train-teacher"], 8, 2, {})
