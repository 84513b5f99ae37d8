"""A folder in which the workflow scores a VCF with a model that nobody trained, and what it ends with."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import yaml
from scoring_stand_ins import ToyPredictor, make_genome

from megabase.model import AlphaGenome, Sizes, save_model
from megabase.sources.manifest import write_manifest
from megabase.spec import MANIFEST_COLUMNS

LINKED = ("Snakefile", "workflow", "envs")
PROFILE = "profiles/slurm/profile.v9+.yaml"
CHUNKS = 8
SCORES = "results/scores/mine/untrained"
WINDOW = 4096
GTF = """chr1\tx\texon\t9001\t9300\t.\t+\t.\tgene_id "g1"; transcript_id "t1"; gene_biotype "protein_coding";
chr1\tx\texon\t10501\t10700\t.\t+\t.\tgene_id "g1"; transcript_id "t1"; gene_biotype "protein_coding";
chr1\tx\texon\t11801\t12000\t.\t+\t.\tgene_id "g1"; transcript_id "t1"; gene_biotype "protein_coding";
chr1\tx\texon\t21001\t23000\t.\t-\t.\tgene_id "g2"; transcript_id "t2"; gene_biotype "protein_coding";
"""


def make_world(folder: Path) -> Path:
    """Genome, genes, model and VCF, which every run of the tests shares."""
    folder.mkdir()
    genome = make_genome(folder)  # toy.fa, and a store to look alleles up in
    (folder / "genes.gtf").write_text(GTF)
    (folder / "variants.vcf").write_text(vcf(genome))
    tracks = ToyPredictor().tracks("toy")
    model = AlphaGenome(Sizes.preset("tiny", {o: len(rows) for o, rows in tracks.items()}), seed=0)
    info = {"name": "untrained", "predictor": "alphagenome", "window": WINDOW, "organisms": ["toy"],
            "tracks": {"toy": {o.value: rows for o, rows in tracks.items()}}}  # fmt: skip
    save_model(folder / "model", model, info)
    return folder


def vcf(genome) -> str:
    """80 variants along the chromosome, some of which no genome could accept."""
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    rng = np.random.default_rng(11)
    for position in sorted(rng.choice(29_000, 80, replace=False)):
        length = int(rng.choice([1, 1, 1, 3]))
        ref = "".join("ACGT"[c] for c in genome.codes("chr1", position, position + length))
        alt = {"A": "C", "C": "G", "G": "T", "T": "A"}[ref[0]]
        lines.append(f"chr1\t{position + 1}\t.\t{ref}\t{alt}\t.\t.\t.")
    lines += [
        "chr1\t30501\t.\tA\tC\t.\t.\t.",
        "chr1\t35000\t.\tN\t<DEL>\t.\t.\t.",
        "chrX\t5\t.\tA\tC\t.\t.\t.",
    ]
    return "\n".join(lines) + "\n"


def make_run(folder: Path, world: Path, root: Path) -> Path:
    """A folder to run the workflow in: links to the checkout, a release of two files, the model."""
    folder.mkdir()
    for part in LINKED:
        (folder / part).symlink_to(root / part)
    shutil.copytree(root / "profiles", folder / "profiles")
    for part in ("config", "resources/manifests", "results/models"):
        (folder / part).mkdir(parents=True)
    shutil.copytree(world / "model", folder / "results/models/untrained")
    shutil.copy2(world / "variants.vcf", folder / "mine.vcf")  # as old as it is: nothing is made anew
    shutil.copy(root / "resources/manifests/demo.tsv", folder / "resources/manifests")
    write_manifest([_row("genome", world / "toy.fa"), _row("genes", world / "genes.gtf")],
                   folder / "resources/manifests/toy.tsv")  # fmt: skip
    values = yaml.safe_load((root / "config/config.yaml").read_text())
    values |= {
        "release": "toy", "organisms": ["toy"], "benchmarks": {}, "ablations": {},
        "genomes": {"toy": {"organism": "toy", "fasta": "genome", "genes": "genes"}},
        "variants": {"mine": {"genome": "toy", "vcf": "mine.vcf"}},
        "chunks": {"load_seconds": 0},
        "scoring": {"window": WINDOW, "batch_size": 2, "background": "mine", "bins": 20},
        "report": {"title": "a run of the tests"},
    }  # fmt: skip
    (folder / "config/run.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return folder


def set_site(folder: Path, **anchors: str) -> None:
    """Set the site of the copied profile, as its comments say: a line an anchor, YAML of the mapping."""
    path = folder / PROFILE
    text = path.read_text()
    for name, mapping in anchors.items():
        text, changed = re.subn(
            rf"^  {name}: &{name} {{.*?}}", f"  {name}: &{name} {mapping}", text, flags=re.M
        )
        assert changed == 1, name
    path.write_text(text)


def _row(role: str, path: Path) -> dict[str, str | None]:
    return dict.fromkeys(MANIFEST_COLUMNS) | {
        "portal": "toy", "accession": role, "output_type": role, "organism": "toy", "url": f"file:{path}",
    }  # fmt: skip


def command(*options: str, target: str = SCORES) -> list[str]:
    """Snakemake that makes `target` in chunks."""
    return ["snakemake", target, "--configfile", "config/run.yaml", "--set-scatter", f"variants={CHUNKS}",
            *options]  # fmt: skip


def environment(folder: Path, more: dict[str, str]) -> dict[str, str]:
    """Variables of a run: the package of the checkout, the tools of this environment, one thread."""
    variables = dict(os.environ) | more
    path = f"{Path(sys.executable).parent}:{variables['PATH']}"
    return variables | {"PATH": path, "PYTHONPATH": str(folder / "workflow"), "OMP_NUM_THREADS": "1"}


def run(folder: Path, arguments: list[str], more: dict[str, str] | None = None) -> str:
    """Run to the end; what failed is in the assertion."""
    done = subprocess.run(
        arguments,
        cwd=folder,
        env=environment(folder, more or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:] + last_logs(folder)
    return done.stdout + done.stderr


def last_logs(folder: Path, number: int = 3) -> str:
    """Ends of the logs of the jobs that wrote last, to go with a failure."""
    logs = sorted((p for p in (folder / "logs").rglob("*.log")), key=lambda p: p.stat().st_mtime)
    return "".join(f"\n== {p.relative_to(folder)}\n{p.read_text()[-2000:]}" for p in logs[-number:])


def digests(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder, hidden ones too."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".snakemake_timestamp")
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def scored(folder: Path) -> list[str]:
    """Names of the variants that a finished run scored, in order."""
    parts = sorted((folder / SCORES / "dnase").glob("part-*.parquet"))
    return pl.concat([pl.read_parquet(part, columns=["variant_id"]) for part in parts])[
        "variant_id"
    ].to_list()
