"""The whole graph of jobs of every configuration, of the cluster profile, and of the catalog's adapter."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import pytest
import yaml

from megabase.sources.manifest import read_manifest

TESTED_SCATTER = "--set-scatter variants=3"


def _jobs(text: str) -> dict[str, int]:
    table = text.split("Job stats:")[1].split("\n\n")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.M)}


def test_demo(shell, checkout: Path) -> None:
    result = shell("snakemake -n")
    assert result.returncode == 0, result.stdout + result.stderr
    jobs = _jobs(result.stdout + result.stderr)
    assert jobs["fetch_source"] == read_manifest(checkout / "resources/manifests/demo.tsv").height
    assert jobs["simulate_demo"] == jobs["distill_student"] == jobs["plot_report"] == 1
    assert jobs["train_teacher"] == 3  # a fold, two all-folds
    assert jobs["gather_ensemble"] == 1
    assert jobs["calibrate_spread"] == 2 * 2  # the ensemble and the student, which has a variance output
    assert jobs["evaluate_tracks"] == 6 * 2  # 3 teachers, student and 2 baselines on 2 organisms
    assert jobs["score_variants"] == 2 * jobs["split_variants"]


def test_one_command_an_ablation_and_nothing_more(shell) -> None:
    names = ("resolution", "length", "teachers", "modality")
    result = shell(f"snakemake -n {' '.join(f'results/ablations/{name}.tsv' for name in names)}")
    assert result.returncode == 0, result.stdout + result.stderr
    jobs = _jobs(result.stdout + result.stderr)
    made = {
        rule for rule in jobs if re.search("train|distill|ensemble|gather|evaluat|score|tabulate|plot", rule)
    }
    assert {rule: jobs[rule] for rule in made} == {
        "train_ablated": 3 + 2 + 5, "train_teacher": 2, "distill_ablated": 2, "gather_ablated": 2,
        "evaluate_tracks": 2 * (3 + 2 * 2 + 4 + 5), "tabulate_ablation": 4,
    }  # fmt: skip


def test_ablations_of_the_report_are_made_for_it(shell) -> None:
    result = shell("snakemake -n --config 'report={ablations: [resolution]}'")
    jobs = _jobs(result.stdout + result.stderr)
    assert jobs["train_ablated"] == 3 and jobs["tabulate_ablation"] == jobs["plot_report"] == 1
    assert jobs["train_teacher"] == 3


def test_a_model_asked_in_another_window(shell, checkout: Path) -> None:
    """Evaluation and benchmark of `{model}@{window}` use the model, and that window."""
    targets = ("evaluation/student-seed0@4096/alpha.tsv", "benchmarks/eqtl_sign/student-seed0@4096.tsv")
    result = shell(f"snakemake -n -p {' '.join(f'results/{path}' for path in targets)}")
    text = result.stdout + result.stderr
    assert result.returncode == 0, text
    commands = [line for line in text.splitlines() if "megabase " in line and "student-seed0" in line]
    for name in ("evaluate-tracks", "score-variants"):
        used = [line for line in commands if f"megabase {name}" in line]
        assert used and all('"window":4096' in line for line in used)
        assert all("results/models/student-seed0/model.json" in line for line in used)


def test_intervals_and_enhancers_are_scored_when_they_are_named(shell, checkout: Path) -> None:
    """Each with the model, window and places that its section names; the report asks for neither."""
    (checkout / "pairs.tsv").write_text("chrom\tstart\tend\tgene\tbiosample\n")
    options = (
        "'intervals={all: {genome: alpha, window: 8192}}' "
        "'enhancers={e2g: {genome: alpha, pairs: pairs.tsv}}'"
    )
    targets = "results/intervals/all/student-seed0 results/enhancers/e2g/student-seed0@4096.parquet"
    result = shell(f"snakemake -n -p {targets} --config {options}")
    text = result.stdout + result.stderr
    assert result.returncode == 0, text
    jobs = _jobs(text)
    assert jobs["score_intervals"] == jobs["score_enhancers"] == 1 and "score_variants" not in jobs
    (intervals,) = (line for line in text.splitlines() if "megabase score-intervals" in line)
    (enhancers,) = (line for line in text.splitlines() if "megabase score-enhancers" in line)
    assert (
        "--regions= " in intervals and '"window":8192' in intervals and '"scorers":["rna_seq"]' in intervals
    )
    assert "pairs.tsv" in enhancers and '"window":4096' in enhancers and '"sigma":300.0' in enhancers
    everything = _jobs(shell(f"snakemake -n --config {options}").stdout)
    assert "score_intervals" not in everything and "score_enhancers" not in everything


def test_every_snv_of_a_bed_and_of_a_genome(shell, checkout: Path) -> None:
    """Such a set is split, scored and merged as others; `all` asks for its tracks, other sets have none."""
    (checkout / "locus.bed").write_text("chrA1\t1000\t1100\n")
    options = (
        "--config 'variants={locus: {genome: alpha, saturate: locus.bed}, "
        "atlas: {genome: alpha, saturate: genome}}' --set-scatter variants=3"
    )
    target = "results/saturation/locus/student-seed0"
    result = shell(f"snakemake -n -p {target} {options}")
    text = result.stdout + result.stderr
    assert result.returncode == 0, text
    jobs = _jobs(text)
    assert jobs["write_saturation"] == 1 and jobs["split_variants"] == 2 and jobs["score_variants"] == 6
    (split,) = (line for line in text.splitlines() if "megabase split-variants locus.bed" in line)
    assert '"saturate":"locus.bed"' in split
    (written,) = (line for line in text.splitlines() if "megabase write-saturation" in line)
    assert f"--split results/variants/locus/split.json -o {target} " in written
    everything = shell(f"snakemake -n -p {options}")
    text = everything.stdout + everything.stderr
    assert _jobs(text)["write_saturation"] == 2
    assert "megabase split-variants results/genome/alpha/sequence.json" in text
    other = shell(f"snakemake -n results/saturation/background/student-seed0 {options}")
    assert other.returncode == 1 and "MissingRuleException" in other.stdout + other.stderr


def test_the_uncertainty_of_scores_is_an_ensemble_of_the_same_variants(shell) -> None:
    """Chunks of the ensemble are merged in; those of the student stay as they are without it."""
    target = "results/scores/eqtl_sign/student-seed0"
    texts = []
    for more in ("", "--config 'scoring={uncertainty: ensemble-all}'"):
        result = shell(f"snakemake -n -p {target} --set-scatter variants=3 {more}")
        texts.append(result.stdout + result.stderr)
        assert result.returncode == 0, texts[-1]
    plain, more = (_jobs(text) for text in texts)
    assert more["score_variants"] == plain["score_variants"] + 3
    assert more["gather_ensemble"] == 1 and "gather_ensemble" not in plain
    lines = [{line.strip() for line in t.splitlines() if "megabase score-variants" in line} for t in texts]
    assert lines[0] < lines[1]
    merges = [next(line for line in t.splitlines() if "megabase merge-scores" in line) for t in texts]
    assert "--uncertainty= " in merges[0]
    assert "--uncertainty=results/chunks/eqtl_sign/ensemble-all " in merges[1]
    assert "merge-scores results/chunks/eqtl_sign/student-seed0 " in merges[1]


@pytest.mark.parametrize("name", ["human_tiny", "yeast"])
def test_real_data(name: str, shell, checkout: Path, real_data: Path) -> None:
    result = shell(f"snakemake -n --configfile config/{name}.yaml --config data={real_data}")
    assert result.returncode == 0, result.stdout + result.stderr
    jobs = _jobs(result.stdout + result.stderr)
    assert jobs["fetch_source"] > 5
    assert "simulate_demo" not in jobs  # nothing of the demo's configuration is merged in
    organisms = len(yaml.safe_load((checkout / f"config/{name}.yaml").read_text())["organisms"])
    assert jobs["write_shards"] == organisms


def test_the_ensemble_trains_first_and_fold_teachers_before_scoring(shell) -> None:
    result = shell("snakemake -n")
    text = result.stdout + result.stderr
    found = re.findall(r"^rule (\w+):\n(.*?)^\[", text, re.M | re.S)
    priority = {(rule, "scheme=all" in job): int((re.findall(r"priority: (\d+)", job) or ["0"])[0])
                for rule, job in found}  # fmt: skip
    assert priority["train_teacher", True] == priority["distill_student", False] > 0
    chain = [priority["train_teacher", True], priority["train_teacher", False],
             priority["score_variants", False], priority["evaluate_tracks", False]]  # fmt: skip
    assert chain == sorted(set(chain), reverse=True)


def test_missing_manifest_is_one_line(shell) -> None:
    result = shell("snakemake -n --configfile config/alphagenome.yaml")
    assert result.returncode == 1
    message = _message(result.stderr)
    assert message.startswith("error: ") and "resources/manifests/alphagenome.tsv" in message


def test_slurm_profile_asks_for_gpus_memory_and_time(shell) -> None:
    result = shell(f"snakemake -n --profile profiles/slurm {TESTED_SCATTER}")
    assert result.returncode == 0, result.stdout + result.stderr
    text = result.stdout + result.stderr
    assert _jobs(text)["score_variants"] == 3 * _jobs(text)["split_variants"]
    for rule in ("train_teacher", "distill_student", "score_variants", "evaluate_tracks"):
        job = text.split(f"rule {rule}:")[1].split("\n[")[0]
        assert "gpu=1" in job and re.search(r"mem_mb=\d{5,}", job) and re.search(r"runtime=\d{3,}", job), job


def test_slurm_profile_scatters_wide_by_itself(root: Path) -> None:
    profile = yaml.safe_load((root / "profiles/slurm/profile.v9+.yaml").read_text())
    scatter = int(profile["set-scatter"].split("=")[1])
    assert profile["jobs"] > scatter > 100
    assert "set-scatter" not in yaml.safe_load((root / "profiles/default/profile.yaml").read_text())


def test_a_thousand_chunks_are_planned_in_under_a_minute(shell) -> None:
    """In seconds of the processor, so that other work on the machine does not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = shell("snakemake -n results/scores/background/student-seed0 --set-scatter variants=1000")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert _jobs(result.stdout + result.stderr)["score_variants"] == 1000
    assert after.ru_utime - before.ru_utime < 60


def test_slurm_profile_gives_every_rule_memory_and_time_by_attempt(root: Path) -> None:
    """Trainings go on from their checkpoint and get no more time; everything else gets more of both."""
    profile = yaml.safe_load((root / "profiles/slurm/profile.v9+.yaml").read_text())
    rules = "".join(path.read_text() for path in (root / "workflow/rules").glob("*.smk"))
    names = set(re.findall(r"^rule (\w+):", rules, re.M)) | set(
        re.findall(r"^use rule \w+ as (\w+)", rules, re.M)
    )
    assert set(profile["set-resources"]) == names
    for name, given in profile["set-resources"].items():
        assert re.fullmatch(r"attempt \* \d+", given["mem_mb"]), name
        again = not re.match("train_|distill_", name)
        assert isinstance(given["runtime"], str if again else int), name
    assert profile["retries"] > 0 and profile["slurm-requeue"] and profile["rerun-incomplete"]
    assert "slurm-array-jobs" not in profile  # docs/slurm.md


def test_slurm_site_is_one_block(shell, checkout: Path) -> None:
    """A partition, an account and a kind of GPU that are set there reach the jobs that they are for."""
    path = checkout / "profiles/slurm/profile.v9+.yaml"
    text = path.read_text()
    site = {
        "cpu": "slurm_partition: \"'plain'\"",
        "gpu": "gpu: 0, gres: \"'gpu:h200:1'\", slurm_account: \"'lab'\"",
    }
    for name, given in site.items():
        text, changed = re.subn(
            rf"^  {name}: &{name} {{.*?}}", f"  {name}: &{name} {{{given}}}", text, flags=re.M
        )
        assert changed == 1
    path.write_text(text)
    result = shell(f"snakemake -n --profile profiles/slurm {TESTED_SCATTER}")
    assert result.returncode == 0, result.stdout + result.stderr
    jobs = {rule: (result.stdout + result.stderr).split(f"rule {rule}:")[1].split("\n[")[0]
            for rule in ("score_variants", "split_variants", "train_teacher")}  # fmt: skip
    assert "gres=gpu:h200:1" in jobs["score_variants"] and "slurm_account=lab" in jobs["score_variants"]
    assert "slurm_partition=plain" in jobs["split_variants"] and "gpu=1" in jobs["train_teacher"]


def test_catalog_adapter_has_all_jobs(shell) -> None:
    plain, adapter = shell("snakemake -n"), shell("snakemake -n -s workflow/Snakefile")
    wanted, found = (_jobs(r.stdout + r.stderr) for r in (plain, adapter))
    assert wanted.pop("all") == found.pop("default") == 1
    assert found == wanted


def test_as_module_of_another_workflow(shell, checkout: Path) -> None:
    other = checkout / "other.smk"
    other.write_text(
        'configfile: "config/config.yaml"\nmodule megabase:\n    snakefile: "workflow/Snakefile"\n'
        "    config: config\nuse rule * from megabase\n"
    )
    result = shell("snakemake -n -s other.smk")
    assert result.returncode == 0, result.stdout + result.stderr
    assert _jobs(result.stdout + result.stderr)["plot_report"] == 1


def _message(stderr: str) -> str:
    """What was printed, less Snakemake's own word on the profile in use."""
    return "\n".join(line for line in stderr.splitlines() if not line.startswith("Using workflow specific"))


@pytest.mark.parametrize(
    ("wrong", "place", "nearest"),
    [("organism:", "organism", "organisms"), ("  windows:", "folds.windows", "window"),
     ("    stepz:", "teachers.train.stepz", "steps")],
)  # fmt: skip
def test_mistyped_key(wrong: str, place: str, nearest: str, shell, checkout: Path) -> None:
    path = checkout / "config/config.yaml"
    text, key = path.read_text(), f"{' ' * (len(wrong) - len(wrong.lstrip()))}{nearest}:"
    assert f"\n{key}" in text
    path.write_text(text.replace(f"\n{key}", f"\n{wrong}", 1))
    result = shell("snakemake -n")
    assert result.returncode == 1
    message = _message(result.stderr)
    assert message.count("\n") == 0, message
    assert message.startswith("error: config/config.yaml: ")
    assert f"unknown key {place}; nearest valid key: {nearest}" in message
    assert result.stdout == ""


def test_unknown_accession(shell, checkout: Path) -> None:
    path = checkout / "config/config.yaml"
    path.write_text(path.read_text().replace("fasta: alpha_genome", "fasta: alpha_genom"))
    result = shell("snakemake -n")
    assert result.returncode == 1
    message = _message(result.stderr)
    assert message.startswith(
        "error: config/config.yaml: genomes.alpha.fasta: resources/manifests/demo.tsv: "
    )
    assert "'alpha_genom'" in message and "nearest: alpha_genome" in message and "\n" not in message


def _reasons(text: str) -> set[str]:
    return set(re.findall(r"^rule (\w+):", text, re.M))


def test_benchmark_reads_the_scores_that_it_shares(shell, checkout: Path) -> None:
    scores = checkout / "results/scores/eqtl_sign/mine"
    scores.mkdir(parents=True)
    (scores / "scores.json").write_text("{}")
    result = shell("snakemake -n results/benchmarks/eqtl_effect/mine.tsv")
    assert result.returncode == 0, result.stdout + result.stderr
    job = (result.stdout + result.stderr).split("rule evaluate_benchmark:")[1].split("\n[")[0]
    assert "results/benchmarks/eqtl_effect/table.parquet, results/scores/eqtl_sign/mine" in job


def test_a_model_of_ones_own_needs_only_its_scores(shell, checkout: Path) -> None:
    scores = checkout / "results/scores/eqtl_sign/mine"
    scores.mkdir(parents=True)
    (scores / "scores.json").write_text("{}")
    result = shell("snakemake -n results/benchmarks/eqtl_sign/mine.tsv")
    assert result.returncode == 0, result.stdout + result.stderr
    rules = _reasons(result.stdout + result.stderr)
    assert "evaluate_benchmark" in rules and not rules & {"merge_scores", "score_variants", "train_teacher"}
