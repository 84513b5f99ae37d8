"""config/alphagenome.yaml before its files are listed: the whole graph, its cost; it is never run."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from megabase.plan import Plan
from megabase.planned import plan_sources
from megabase.sources.manifest import write_manifest
from megabase.spec import MANIFEST_COLUMNS, TRACK_OUTPUTS

METADATA = "portals/benchmarks/alphagenome/OutputMetadataResponse_ORGANISM_{}.textproto.gz"
DRY_RUN = "snakemake -n --configfile config/alphagenome.yaml"
ARGUMENT = 131_072  # bytes that Linux takes in one argument, as which a job's command is given to its shell
MANIFEST = "resources/manifests/alphagenome.tsv"


@pytest.fixture
def planned(checkout: Path, real_data: Path) -> list[dict[str, Any]]:
    """The planned manifest, written into the copy of the checkout."""
    names = {"human": "HOMO_SAPIENS", "mouse": "MUS_MUSCULUS"}
    metadata = {o: real_data / METADATA.format(name) for o, name in names.items()}
    return plan_sources(checkout / "config/alphagenome.yaml", checkout / MANIFEST, metadata=metadata)


def thin(rows: list[dict[str, Any]], checkout: Path) -> int:
    """Keep one file of every 20th channel, and the single files; returns how many."""
    kept = [
        row for row in rows
        if not (found := re.fullmatch(r"planned-\w+-\w+-(\d+)-(\d+)", row["accession"]))
        or (int(found[1]) % 20 == 0 and found[2] == "1")
    ]  # fmt: skip
    write_manifest(kept, checkout / MANIFEST)
    return len(kept)


def jobs_of(text: str) -> dict[str, int]:
    table = text.split("Job stats:")[1].split("\n\n")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.M)}


def check_models(jobs: dict[str, int]) -> None:
    assert jobs["train_teacher"] == 4 + 64 and jobs["distill_student"] == 1
    assert jobs["evaluate_tracks"] == 4 * 2 and jobs["write_shards"] == 2
    assert jobs["split_variants"] == 4  # the background, and the variants of three benchmarks


def test_a_dry_run_tells_the_cost_once(planned: list[dict[str, Any]], checkout: Path, shell) -> None:
    files = thin(planned, checkout)
    result = shell(DRY_RUN)
    assert result.returncode == 0, result.stdout + result.stderr
    jobs = jobs_of(result.stdout)
    assert 300 < files == jobs["fetch_source"] < 1500
    check_models(jobs)
    assert "H100 hours" not in result.stdout and result.stderr.count("H100 hours") == 1
    found = re.findall(r"^(\w+): .* +[\d,]+ +[\d,.]+$", result.stderr, re.M)
    training = ["teachers"] * 5 + ["students"]
    assert found == [*training, "evaluation", "calibration", *["scores"] * 3, "explanation"]
    assert "nothing was measured" in result.stderr


def test_it_passes_on_a_cluster(planned: list[dict[str, Any]], checkout: Path, shell) -> None:
    thin(planned, checkout)
    result = shell(f"{DRY_RUN} --profile profiles/slurm --set-scatter variants=3")
    assert result.returncode == 0, result.stdout + result.stderr
    text = result.stdout + result.stderr
    check_models(jobs_of(text))
    for rule in ("train_teacher", "distill_student"):
        job = text.split(f"rule {rule}:")[1].split("\n[")[0]
        assert all(f"{name}=1" in job for name in ("gpu", "processes", "nodes")), job


def test_a_planned_release_is_not_run(planned: list[dict[str, Any]], checkout: Path, shell) -> None:
    thin(planned, checkout)
    result = shell(f"{DRY_RUN.replace(' -n', ' --cores 1')} -- results/genome/human/sequence.json")
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "files are planned, not found" in errors[0] and MANIFEST in errors[0]
    assert "megabase list-sources" in errors[0]
    assert not (checkout / "results").exists() and not (checkout / "logs").exists()


def test_without_a_manifest_one_line_tells_how_to_get_it(shell) -> None:
    result = shell(DRY_RUN)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 1 and len(errors) == 1
    assert "megabase list-sources" in errors[0] and "megabase plan-sources" in errors[0]


def test_a_real_run_says_nothing_of_cost(shell) -> None:
    assert "TFLOP" in shell("snakemake -n -- results/genome/alpha/sequence.json").stderr
    assert "TFLOP" not in shell("snakemake --list-rules").stderr


# Look-ups grow with the release and no faster: counted in calls, which are the same on every machine.


def release(files: int) -> Iterator[dict[str, Any]]:
    """Two files a group, half of the groups in the mouse."""
    for number in range(files):
        yield dict.fromkeys(MANIFEST_COLUMNS) | {
            "portal": "p", "accession": f"planned-{number}", "output_type": "dnase", "assay": "DNase-seq",
            "organism": ("human", "mouse")[number // 2 % 2], "strand": ".", "replicate": number % 2,
            "ontology_curie": f"T:{number // 2}", "url": f"planned:{number}.bam",
        }  # fmt: skip


def look_up(plan: Plan) -> None:
    """What the workflow asks of a plan for fetching, normalizing and gathering."""
    for row in plan.sheet.rows:
        place = SimpleNamespace(portal="p", file=f"{row['accession']}.bam")
        plan.source_origin(place), plan.source_options(place)
    for organism in plan.settings.organisms:
        for output in TRACK_OUTPUTS:
            for group in plan.sheet.groups(organism, output):
                place = SimpleNamespace(organism=organism, output_type=output, group=group)
                plan.track_files(place), plan.track_rows(place)
        plan.track_folders(SimpleNamespace(organism=organism))


def calls_of(function: Callable[[], Any]) -> int:
    """Calls that a function makes, its own and those below it."""
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_look_ups_grow_with_the_release(checkout: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    values = yaml.safe_load((root / "config/alphagenome.yaml").read_text())
    values |= {"variants": {}, "benchmarks": {}, "report": {}, "cost": {}, "ablations": {}}
    for name, organism in (("human", "human"), ("mouse", "mouse")):
        values["genomes"][name] = {"organism": organism, "fasta": "planned-0"}
    counts = []
    for files in (400, 800, 1600):
        write_manifest(release(files), checkout / MANIFEST)
        counts.append(calls_of(lambda: look_up(Plan(values, "c.yaml"))))
    assert counts[1] < 2.1 * counts[0] and counts[2] < 2.1 * counts[1], counts


def test_the_estimate_is_no_setting_of_a_result(
    checkout: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    values = yaml.safe_load((root / "config/config.yaml").read_text())
    plain, other = Plan(values, "c.yaml"), Plan(values | {"cost": {"share": 0.5}}, "c.yaml")
    assert plain.report_settings() == other.report_settings()
    cut = Plan(values | {"chunks": {"load_seconds": 1}}, "c.yaml")  # nor is how its jobs are cut
    assert plain.report_settings() == cut.report_settings()
    changed = Plan(values | {"seed": 1}, "c.yaml")
    assert plain.report_settings() != changed.report_settings()


@pytest.mark.slow
def test_the_whole_graph_in_under_a_minute(planned: list[dict[str, Any]], shell) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = shell(f"{DRY_RUN} --printshellcmds")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    jobs = jobs_of(result.stdout)
    check_models(jobs)
    assert jobs["fetch_source"] == len(planned) > 25_000 and jobs["normalize_track"] > 4_000
    commands = re.findall(r"^Shell command: .*$", result.stdout, re.M)
    assert len(commands) > 34_000 and max(map(len, commands)) < ARGUMENT
    assert after.ru_utime - before.ru_utime < 60  # seconds of the processor: other work does not count
