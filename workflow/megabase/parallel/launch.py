"""Starting a command again as many processes: torchrun, on many nodes through one srun task each.

A SLURM job of several nodes runs its command on the first; srun then starts one task a node, and each of
these is a torchrun agent that starts its node's processes. Standard library only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

FIRST_PORT, PORTS = 20_000, 20_000  # where the agents of a job meet: a port by the number of the job


def launch(processes: int, nodes: int = 1) -> None:
    """Replace this process by `processes` on each of `nodes`, with the same arguments.

    Returns where one process is all that is asked for, and in the processes that torchrun has started.
    ValueError where several nodes are asked for outside a SLURM job.
    """
    if processes < 1 or nodes < 1:
        raise ValueError(f"--processes {processes} --nodes {nodes}: wanted at least 1 of both")
    if processes * nodes == 1 or "TORCHELASTIC_RUN_ID" in os.environ:
        return
    command = agents(sys.argv[1:], processes, nodes, os.environ)
    sys.stderr.flush()
    os.execvpe(command[0], command, dict(os.environ) | threads_each(processes, os.environ))


def agents(arguments: Sequence[str], processes: int, nodes: int, environment: Mapping[str, str]) -> list[str]:
    """Command that starts the processes of a megabase command with these arguments."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    command = ["-m", "megabase", *arguments]
    if nodes == 1:
        return [*torchrun, "--standalone", *command]
    job, hosts = environment.get("SLURM_JOB_ID"), environment.get("SLURM_JOB_NODELIST")
    if not job or not hosts:
        raise ValueError(
            f"--nodes {nodes}: not inside a SLURM job (no SLURM_JOB_ID and SLURM_JOB_NODELIST); start one "
            "torchrun on each node yourself, with --nnodes and --rdzv-endpoint, and leave --nodes out"
        )
    meeting = f"{first_host(hosts)}:{FIRST_PORT + int(job) % PORTS}"
    threads = environment.get("SLURM_CPUS_PER_TASK")
    srun = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--cpu-bind=none"]
    srun += [f"--cpus-per-task={threads}"] if threads else []  # a step does not take it from its job
    rendezvous = [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={meeting}"]
    return [*srun, *torchrun, *rendezvous, f"--rdzv-id={job}", *command]


def first_host(hosts: str) -> str:
    """First host of a SLURM list such as gpu[01-04]."""
    command = ["scontrol", "show", "hostnames", hosts]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return found[0]


def threads_each(processes: int, environment: Mapping[str, str]) -> dict[str, str]:
    """OMP_NUM_THREADS of each of several processes that share the job's."""
    given = environment.get("OMP_NUM_THREADS", "")
    return {"OMP_NUM_THREADS": str(max(1, int(given) // processes))} if given.isdigit() else {}
