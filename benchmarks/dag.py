"""Seconds that `snakemake -n` takes for the whole graph of config/alphagenome.yaml, or for scores in chunks.

    python benchmarks/dag.py --metadata human=PATH --metadata mouse=PATH
    python benchmarks/dag.py --chunks 1000

The second plans the scores of one variant set of the demo, and all that they need. PATH is the published
track metadata of an organism (docs/import.md). The manifest is the planned one, of the published size, and
the run is in a copy of the checkout, so that nothing here is touched. Prints jobs by rule, and seconds of the
wall clock and of the processor.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from megabase.options import named_paths
from megabase.planned import plan_sources

ROOT = Path(__file__).resolve().parents[1]
SCORES = "results/scores/background/student-seed0"
PLANNED = "resources/manifests/alphagenome.tsv"
PARTS = ("Snakefile", "workflow", "config", "profiles", "resources", "envs")


def copy_checkout(folder: Path) -> None:
    """What the workflow runs from."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)


def dry_run(folder: Path, options: list[str]) -> tuple[str, float, float]:
    """What `snakemake -n` printed, and its seconds of the wall clock and of the processor."""
    command = ["snakemake", "-n", *options]
    variables = os.environ | {"PYTHONPATH": str(folder / "workflow")}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    found = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if found.returncode:
        sys.exit(found.stdout[-2000:] + found.stderr[-2000:])
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return found.stdout + found.stderr, wall, used


def jobs_of(text: str) -> dict[str, int]:
    """Jobs by rule, from what Snakemake prints."""
    listed = text.split("Job stats:")[1].split("\n\n")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", listed, re.M)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--metadata", action="append", default=[], help="organism=path")
    parser.add_argument("--chunks", type=int, default=0, help="plan the scores of a set in so many chunks")
    parser.add_argument("--profile", default="", help="profile of Snakemake, such as profiles/slurm")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="megabase-dag-") as name:
        folder = Path(name)
        copy_checkout(folder)
        options = ["--profile", given.profile] if given.profile else []
        if given.chunks:
            options += [SCORES, "--set-scatter", f"variants={given.chunks}"]
        else:
            config, manifest = folder / "config/alphagenome.yaml", folder / PLANNED
            plan_sources(config, manifest, metadata=named_paths(given.metadata))
            options += ["--configfile", "config/alphagenome.yaml"]
        text, wall, used = dry_run(folder, options)
    jobs = jobs_of(text)
    rules = sorted(((count, rule) for rule, count in jobs.items() if rule != "total"), reverse=True)
    print("| rule | jobs |\n|---|---|")
    print("\n".join(f"| {rule} | {count:,} |" for count, rule in rules))
    print(f"\n{jobs['total']:,} jobs: {wall:.1f} s of the wall clock, {used:.1f} s of the processor")


if __name__ == "__main__":
    main()
