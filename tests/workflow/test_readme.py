"""Every command of README.md is run: as it is where it is cheap, dry where `make demo` does it."""

from __future__ import annotations

import gzip
import re
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
DRY = {  # what is added to a command whose full run takes minutes, or needs its results
    "make demo": "DEMO_FLAGS=--dry-run",
    "make test": "TEST_FLAGS=--version",
    "snakemake --cores 2 results/scores/mine/student-seed0": "--dry-run",
    "snakemake --cores 2 results/ablations/resolution.tsv": "--dry-run",
    "snakemake --profile profiles/slurm --dry-run": "--set-scatter variants=3",
    "snakemake --cores 2 --configfile config/human_tiny.yaml --dry-run": "--config data={data}",
}
NEEDS_RESULTS = {  # their own words when there are no results yet
    "megabase explain": "results/scores/mine/student-seed0",
    "megabase query": "results/scores/mine/student-seed0",
    "snakemake --report": "index.html",
}
VCF = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nchr1\t100\t.\tA\tC\t.\t.\t.\n"


def blocks() -> list[str]:
    """The fenced bash blocks of the README, in order."""
    return re.findall(r"^```bash\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)


def addition(command: str) -> str:
    """What makes a long command cheap."""
    return next((more for start, more in DRY.items() if command.startswith(start)), "")


def test_readme_has_commands_and_a_picture(root: Path) -> None:
    assert len(blocks()) >= 6
    for link in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (root / link).exists(), link
    indented = re.findall(r"^    (?:make|snakemake|megabase) .*", README.read_text(encoding="utf-8"), re.M)
    assert indented == []  # a command outside a fenced block would be run by no test


def test_every_command_of_the_readme(checkout: Path, shell, request: pytest.FixtureRequest) -> None:
    (checkout / ".venv").mkdir()
    for part in ("bin", "lib", "pyvenv.cfg"):  # all of it, or Python looks for packages elsewhere
        if (there := Path(sys.prefix) / part).exists():
            (checkout / ".venv" / part).symlink_to(there)
    for stamp in ("installed", "installed-test"):
        (checkout / ".venv" / stamp).touch()
    with gzip.open(checkout / "my.vcf.gz", "wt") as handle:
        handle.write(VCF)
    for command in (line for block in blocks() for line in block.splitlines()):
        more = addition(command)
        if "{data}" in more:
            more = more.format(data=request.getfixturevalue("real_data"))
        result = shell(f"{command} {more}")
        text = result.stdout + result.stderr
        wanted = next((words for start, words in NEEDS_RESULTS.items() if command.startswith(start)), None)
        if wanted is None:
            assert result.returncode == 0, f"{command}\n{text}"
        else:
            assert result.returncode == 1 and wanted in text, f"{command}\n{text}"
        assert "Traceback" not in text, f"{command}\n{text}"
    assert "The report is at" in shell("make demo DEMO_FLAGS=--dry-run").stdout
