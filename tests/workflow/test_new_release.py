"""A new release repeats what changed: one file is fetched, one track made anew, one organism sharded."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
import yaml

from megabase.sources.changes import compare
from megabase.sources.manifest import read_manifest, write_manifest

LENGTH = 65_536
STORES = "results/shards/red/store.json results/shards/blue/store.json"
Row = dict[str, object]


def bigwig(path: Path, seed: int) -> None:
    """A signal over the whole of the one chromosome."""
    values = np.random.default_rng(seed).gamma(1.0, size=LENGTH // 64)
    starts = np.arange(0, LENGTH, 64)
    with pyBigWig.open(str(path), "w") as handle:
        handle.addHeader([("chr1", LENGTH)])
        handle.addEntries(["chr1"] * len(starts), starts, ends=starts + 64, values=values.astype(float))


def row(folder: Path, accession: str, organism: str, output_type: str, **more: object) -> Row:
    """The manifest row of a file in `folder`, as a portal would state it."""
    path = folder / f"{accession}.{'fa' if output_type == 'genome' else 'bigWig'}"
    return {
        "portal": "encode", "accession": accession, "output_type": output_type, "organism": organism,
        "url": f"file:{path}", "md5": hashlib.md5(path.read_bytes()).hexdigest(),
        "size": path.stat().st_size, "status": "released", "retrieved_utc": "2026-01-01T00:00:00Z",
    } | more  # fmt: skip


def track(folder: Path, accession: str, organism: str, output_type: str, **more: object) -> Row:
    given = {"experiment": f"of {accession[:6]}", "assay": "total RNA-seq", "biosample": "liver",
             "ontology_curie": "UBERON:0002107", "strand": ".", "replicate": "1"}  # fmt: skip
    return row(folder, accession, organism, output_type, **(given | more))


@pytest.fixture
def portal(tmp_path: Path) -> Path:
    """Files of two organisms: a genome each, and four signals."""
    folder = tmp_path / "portal"
    folder.mkdir()
    for n, name in enumerate(("red", "blue")):
        bases = "".join(np.random.default_rng(n).choice(list("ACGT"), LENGTH))
        (folder / f"{name}_genome.fa").write_text(f">chr1\n{bases}\n")
    for n, name in enumerate(("red_rna", "red_chip", "red_chip_again", "blue_rna")):
        bigwig(folder / f"{name}.bigWig", n)
    return folder


@pytest.fixture
def rows(portal: Path) -> list[Row]:
    """The first release: two tracks of one organism, one of the other."""
    mark = {"assay": "Histone ChIP-seq", "target": "H3K27ac"}
    return [
        row(portal, "red_genome", "red", "genome"), row(portal, "blue_genome", "blue", "genome"),
        track(portal, "red_rna", "red", "rna_seq"), track(portal, "red_chip", "red", "chip_histone", **mark),
        track(portal, "blue_rna", "blue", "rna_seq"),
    ]  # fmt: skip


def configure(checkout: Path, release: str, rows: list[Row]) -> None:
    """Write a release and the config that names it."""
    write_manifest(rows, checkout / f"resources/manifests/{release}.tsv")
    values = yaml.safe_load((checkout / "config/yeast.yaml").read_text())
    genomes = {name: {"organism": name, "fasta": f"{name}_genome"} for name in ("red", "blue")}
    values |= {"release": release, "organisms": ["red", "blue"], "genomes": genomes}
    for section in (values["teachers"]["train"], values["student"]["distill"]):
        section.pop("loss_weights")
    (checkout / "config/two.yaml").write_text(yaml.safe_dump(values))


def planned(shell, *more: str) -> list[str]:
    """Jobs of a dry run: rule and what it makes, sorted."""
    result = shell(f"snakemake {STORES} -n --configfile config/two.yaml {' '.join(more)}")
    text = result.stdout + result.stderr
    assert result.returncode == 0, text
    jobs = re.findall(r"^rule (\w+):\n(.*?)^\[|^rule (\w+):\n(.*)", text, re.M | re.S)
    found = [(one[0] or one[2], re.search(r"output: (\S+)", one[1] or one[3])[1]) for one in jobs]
    return sorted(f"{rule} {output.rstrip(',')}" for rule, output in found)


def changed(rows: list[Row], accession: str, **more: object) -> list[Row]:
    return [one | more if one["accession"] == accession else one for one in rows]


def group_of(found: str) -> str:
    return found.removeprefix("normalize_track results/tracks/").removesuffix("/track.json")


def test_only_what_changed_is_done_again(shell, checkout: Path, portal: Path, rows: list[Row]) -> None:
    configure(checkout, "first", rows)
    result = shell(f"snakemake {STORES} --cores 2 --configfile config/two.yaml")
    assert result.returncode == 0, result.stdout + result.stderr
    assert planned(shell) == []

    # The same files, listed on another day under another name, are no reason to do anything.
    later = [one | {"retrieved_utc": "2026-06-01T00:00:00Z", "licence": "CC0"} for one in rows]
    configure(checkout, "second", later)
    assert planned(shell) == []

    # One file is superseded by another.
    anew = track(portal, "red_chip_again", "red", "chip_histone", assay="Histone ChIP-seq", target="H3K27ac",
                 supersedes="red_chip", experiment="of red_ch")  # fmt: skip
    second = [one for one in later if one["accession"] != "red_chip"] + [anew]
    configure(checkout, "second", second)
    wanted = [
        "fetch_source results/raw/encode/red_chip_again.bigWig",
        "list_tracks results/tracks/red/tracks.parquet",
        "normalize_track results/tracks/red/chip_histone/UBERON-0002107.Histone-ChIP-seq.H3K27ac/track.json",
        "write_shards results/shards/red/store.json",
    ]
    assert planned(shell) == wanted

    # What `list-sources --against` tells is what the workflow does.
    first, other = (read_manifest(checkout / f"resources/manifests/{name}.tsv").to_dicts()
                    for name in ("first", "second"))  # fmt: skip
    changes = compare(first, other)
    assert [(one.kind, one.old, one.new) for one in changes.files] == [
        ("superseded", "red_chip", "red_chip_again")
    ]
    told = [f"{organism}/{output}/{name}" for (organism, output), names in changes.renormalized.items()
            for name in names]  # fmt: skip
    assert told == [group_of(one) for one in wanted if one.startswith("normalize_track")]
    assert changes.resharded == {"red": ["chip_histone"]}

    kept = [*checkout.glob("results/tracks/*/rna_seq/*/*"), *checkout.glob("results/shards/blue/**/*"),
            *checkout.glob("results/shards/red/rna_seq*"),
            *checkout.glob("results/raw/encode/*_rna.bigWig")]  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in kept}
    made = [checkout / f"results/shards/red/{name}" for name in ("store.json", "chip_histone.runs")]
    store = {path: path.stat().st_mtime_ns for path in made}
    result = shell(f"snakemake {STORES} --cores 2 --configfile config/two.yaml")
    assert result.returncode == 0, result.stdout + result.stderr
    assert before and {path: path.stat().st_mtime_ns for path in kept} == before
    assert all(path.stat().st_mtime_ns != store[path] for path in made)
    assert planned(shell) == []

    # A row that says something else of the same bytes: nothing is fetched, its track is made anew.
    configure(checkout, "third", changed(second, "blue_rna", life_stage="adult"))
    assert planned(shell) == [
        "list_tracks results/tracks/blue/tracks.parquet",
        "normalize_track results/tracks/blue/rna_seq/UBERON-0002107.total-RNA-seq/track.json",
        "write_shards results/shards/blue/store.json",
    ]

    # A track that falls away is taken out of the table and the store; the others stay as they are.
    configure(checkout, "fourth", [one for one in second if one["accession"] != "red_rna"])
    assert planned(shell) == [
        "list_tracks results/tracks/red/tracks.parquet", "write_shards results/shards/red/store.json",
    ]  # fmt: skip

    # Other bytes under the same accession: as the manifest states them, and as they are.
    bigwig(portal / "red_chip_again.bigWig", 9)
    anew |= {"md5": hashlib.md5((portal / "red_chip_again.bigWig").read_bytes()).hexdigest()}
    configure(checkout, "fifth", [*second[:-1], anew])
    assert planned(shell) == wanted
