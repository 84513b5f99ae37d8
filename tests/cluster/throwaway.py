"""A SLURM cluster of three nodes on this machine, in a temporary folder, for as long as a test needs it.

`Cluster.start()` writes the configuration, starts munged, slurmctld and a slurmd for each of gpu1, gpu2 (two
GPUs each, by name: /dev/null and /dev/zero) and cpu1 on free loopback ports, and waits until all are idle.
`stop()` cancels the jobs and ends every process that belongs to the folder. Nothing of the system's own SLURM
or munge is read or touched. A cluster whose owner was killed is found by its folder and stopped by the next.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PREFIX = "megabase-slurm-"
NODES = ("gpu1", "gpu2", "cpu1")
PATIENCE = 60  # seconds for the daemons to come up, or to go
CPUS, MEMORY = 64, 1_000_000  # of a node, by name: the resources of the profile fit

SLURM_CONF = """ClusterName=megabase
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
MpiDefault=none
GresTypes=gpu
SlurmdParameters=config_overrides
SlurmdTimeout=3600
{nodes}
PartitionName=gpu Nodes=gpu[1-2] MaxTime=INFINITE State=UP
PartitionName=cpu Nodes=cpu1 Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Why no cluster can be started here, or None."""
    if os.geteuid() != 0:
        return "not root"
    wanted = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
    missing = [name for name in wanted if shutil.which(name) is None]
    return f"{', '.join(missing)} not installed; run tests/cluster/install.sh" if missing else None


def free_ports(number: int) -> list[int]:
    """Loopback ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for(ready: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until `ready()` holds; TimeoutError tells for what it waited."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:.0f} s still not: {what}")
        time.sleep(0.25)


def processes_of(folder: Path) -> Iterator[int]:
    """Processes that name the folder in their command or environment: daemons, steps and jobs."""
    mark = str(folder).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            if mark in (entry / "cmdline").read_bytes() or mark in (entry / "environ").read_bytes():
                yield int(entry.name)
        except OSError:  # it ended meanwhile
            continue


def end_processes(folder: Path) -> None:
    """End all of them: first kindly, then by force."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in processes_of(folder):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + 5
        while any(_runs(pid) for pid in processes_of(folder)) and time.monotonic() < deadline:
            time.sleep(0.25)


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def clean_up_left_ones() -> None:
    """Stop clusters whose owner was killed, and remove their folders."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = folder / "owner"
        if owner.exists() and _runs(int(owner.read_text())):
            continue
        end_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)


class Cluster:
    """`folder` holds all of it; `environment` is what SLURM's commands need to find it."""

    def __init__(self) -> None:
        clean_up_left_ones()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))  # a short path: a socket's has 108 characters
        self.folder.chmod(0o755)  # munged asks for it
        (self.folder / "owner").write_text(str(os.getpid()))
        self.daemons: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """Variables of this process with those of the cluster."""
        plain = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        return plain | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}

    def start(self) -> None:
        """Start all daemons; returns when every node is idle. What went wrong is in `logs()`."""
        for name in ("state", "log", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        self._configure()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        own = {name: f"{self.folder}/munge.{name}" for name in ("socket", "pid", "seed")}
        self._daemon("munged", "--foreground", f"--key-file={key}", f"--socket={own['socket']}",
                     f"--pid-file={own['pid']}", f"--seed-file={own['seed']}",
                     f"--log-file={self.folder}/log/munged.log")  # fmt: skip
        wait_for(Path(own["socket"]).exists, f"munged listens\n{self.logs()}")
        self._daemon("slurmctld", "-D", "-c")
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node)
        try:
            wait_for(lambda: self.states() == dict.fromkeys(NODES, "idle"), "all nodes are idle")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.states()}\n{self.logs()}") from None

    def stop(self) -> None:
        """Cancel every job, end every process of the folder, and remove it."""
        try:
            if self.daemons:  # without them, SLURM's commands would wait for an answer
                self.ask("scancel", "--user=root", check=False)
                wait_for(lambda: not self.ask("squeue", "--noheader", check=False), "jobs are cancelled", 10)
        except (OSError, TimeoutError):
            pass  # they are ended all the same
        finally:
            end_processes(self.folder)
            for daemon in self.daemons:
                daemon.wait()
            shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, *command: str, check: bool = True) -> str:
        """What a SLURM command prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def states(self) -> dict[str, str]:
        """State of each node, such as idle, mixed, down."""
        lines = self.ask("sinfo", "--noheader", "--Node", "--format=%N %t", check=False).splitlines()
        return dict(line.split() for line in lines if len(line.split()) == 2)

    def logs(self) -> str:
        """The last lines of every daemon's log."""
        files = sorted((self.folder / "log").glob("*"))
        return "\n".join(f"== {f.name}\n" + "\n".join(f.read_text().splitlines()[-15:]) for f in files)

    def _configure(self) -> None:
        port, *ports = free_ports(1 + len(NODES))
        host = socket.gethostname().split(".")[0]
        size = f"CPUs={CPUS} RealMemory={MEMORY}"
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={p} {size}"
            + (" Gres=gpu:2" if node.startswith("gpu") else "")
            for node, p in zip(NODES, ports, strict=True)
        )
        text = SLURM_CONF.format(host=host, port=port, folder=self.folder, nodes=nodes)
        (self.folder / "slurm.conf").write_text(text)
        gres = "NodeName=gpu[1-2] Name=gpu File=/dev/null,/dev/zero\n"
        (self.folder / "gres.conf").write_text(gres)
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        # Snakemake's job step calls srun without the variables of SLURM, SLURM_CONF among them.
        (self.folder / "bin").mkdir()
        srun = self.folder / "bin/srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)

    def _daemon(self, *command: str) -> None:
        log = (self.folder / "log" / f"{command[0]}.out").open("ab")
        with log:
            daemon = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        self.daemons.append(daemon)
