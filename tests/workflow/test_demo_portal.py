"""The demo through a portal: searched, listed, downloaded over HTTP with faults, normalized and sharded.

What comes out is compared with the same files taken from a folder: the same bytes of signal and contacts,
the same splice tables, and the same tracks but for what they are called after.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from megabase.files import read_table, read_tsv
from megabase.settings.listing import ListingSettings
from megabase.settings.section import section_json
from megabase.simulate import DemoSize, simulate_demo
from megabase.sources.manifest import read_manifest, write_manifest
from portal import Fault, Portal
from portal.demo_items import MAPS, SPECIES, Offer, offer_demo

SIZE = DemoSize(
    alpha={"chrA1": 96_000, "chrA2": 64_000}, beta={"chrB1": 80_000}, variants=60, eqtls=4, sqtls=2
)  # fmt: skip
KEPT = "^(alpha|beta)_(genome|genes|variants|hepatic_.*)$"  # one cell type has every assay
FAULTS = {"dnase_rep1": Fault.CUT, "ctcf_rep1": Fault.BUSY, "cage_rep1": Fault.CORRUPT}
SPLICING = ("sites", "usage", "junctions")
NAMED = ("data_source", "accessions")  # columns that tell where a track came from
Rows = list[dict[str, Any]]


def simulated(folder: Path) -> Rows:
    """Manifest rows of a small demo whose files lie in `folder/files`.

    The life stage of contact maps is left out, since 4DN does not tell it.
    """
    simulate_demo(folder / "files", 3, folder / "all.tsv", SIZE)
    table = pl.read_csv(folder / "all.tsv", separator="\t", infer_schema=False)
    rows = table.filter(pl.col("accession").str.contains(KEPT)).fill_null("").to_dicts()
    return [row | {"life_stage": ""} if row["output_type"] == MAPS else row for row in rows]


def rules_for_the_demo(root: Path, folder: Path, offer: Offer) -> ListingSettings:
    """The project's own rules, for the demo's organisms: every replicate, and any PRO-cap experiment."""
    lines = (root / "resources/assay_rules.tsv").read_text().splitlines()
    header, *rules = [line.split("\t") for line in lines if not line.startswith("#")]
    changed = {"organisms": "|".join(SPECIES), "files": "each", "experiments": ""}
    table = [[changed.get(name, value) for name, value in zip(header, rule, strict=True)] for rule in rules]
    (folder / "assay_rules.tsv").write_text("\n".join("\t".join(row) for row in [header, *table]) + "\n")
    maps = pl.DataFrame(offer.maps)
    maps.write_csv(folder / "contact_maps.tsv", separator="\t")
    assemblies = {name: name for name in SPECIES}
    return ListingSettings(
        assay_rules=str(folder / "assay_rules.tsv"), contact_maps=str(folder / "contact_maps.tsv"),
        assemblies=assemblies, map_assemblies=assemblies, species=SPECIES,
    )  # fmt: skip


def finish(shell: Any, command: str) -> None:
    done = shell(command)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def configure(checkout: Path, release: str, organism: str) -> str:
    """A config of a release whose results go to a folder of its name; returns the options that name both."""
    values = {
        "release": release, "organisms": [organism],
        "genomes": {organism: {"organism": organism, "fasta": f"{organism}_genome"}},
        "folds": {"names": ["a"], "schemes": {"all": {"valid": [], "test": []}}},
        "teachers": {"folds": []},
    }  # fmt: skip
    (checkout / f"{release}.yaml").write_text(yaml.safe_dump(values))
    return f"--cores 2 --configfile {release}.yaml --show-failed-logs"


def tracks_of(store: Path) -> pl.DataFrame:
    """The track table of a store without what tells where tracks came from.

    A contact map from 4DN has its accession in assay and name, since there one file is one track.
    """
    table = read_table(store / "tracks.parquet", "tracks")
    plain = pl.col("assay", "name").str.replace(r" 4DNFI\d+", "")
    return table.with_columns(plain).drop(NAMED)


def assert_same_store(found: Path, wanted: Path) -> None:
    """The same signal and contacts byte by byte, the same splice tables and tracks."""
    data = sorted(path.name for path in wanted.iterdir() if path.suffix in (".runs", ".bands", ".npy"))
    assert {name.split(".")[0] for name in data} >= {"dnase", "atac", "chip_tf", "rna_seq", "cage", MAPS}
    assert sorted(p.name for p in found.iterdir()) == sorted(p.name for p in wanted.iterdir())
    for name in data:
        assert (found / name).read_bytes() == (wanted / name).read_bytes(), name
        assert (found / name).stat().st_size > 0
    for kind in SPLICING:
        tables = [read_table(store / f"{kind}.parquet", kind) for store in (found, wanted)]
        assert tables[0].height > 0
        assert_frame_equal(*tables, check_exact=True)
    assert_frame_equal(tracks_of(found), tracks_of(wanted), check_exact=True)


@pytest.mark.parametrize("organism", ["beta", pytest.param("alpha", marks=pytest.mark.slow)])
def test_the_demo_goes_through_a_portal(
    organism: str, portal: Portal, checkout: Path, shell: Any, root: Path, tmp_path: Path
) -> None:
    demo = tmp_path / "demo"
    rows = simulated(demo)
    offer = offer_demo(portal, rows, demo / "files")
    settings = rules_for_the_demo(root, demo, offer)
    write_manifest(offer.own, demo / "own.tsv")

    # Search and manifest.
    manifest = checkout / "resources/manifests/portal.tsv"
    finish(
        shell,
        f"python -m megabase list-sources {demo}/own.tsv --portal encode --portal 4dn --release portal "
        f"--base-url {portal.url} --settings '{section_json(settings)}' -o resources/manifests/portal.tsv",
    )
    listed = read_manifest(manifest)
    assert sorted(listed["accession"]) == sorted(offer.names.values())
    assert dict(listed["portal"].value_counts().rows()).keys() == {"demo", "encode", "4dnucleome"}
    refused = read_tsv(manifest.with_suffix(".refused.tsv"), "refused").fill_null("")
    reasons = {(row["experiment"], row["accession"]): row["reason"] for row in refused.to_dicts()}
    assert reasons == offer.refused
    assert not [one for one in portal.requests if one.path != "/search/"]  # a listing fetches no file

    # Download, normalize and shard, while three answers fail.
    told = len(portal.requests)
    paths = {name: path for name, path in offer.paths.items() if name.startswith(f"{organism}_")}
    for name, fault in FAULTS.items():
        portal.resource(paths[f"{organism}_hepatic_{name}"]).faults.append(fault)
    options = configure(checkout, "portal", organism)
    finish(shell, f"snakemake results/shards/{organism}/store.json {options}")
    asked = [one.path for one in portal.requests[told:]]
    unused = ("genes", "variants", "qtl")
    wanted = {paths[row["accession"]]: 1 for row in rows
              if row["accession"] in paths and row["output_type"] not in unused}  # fmt: skip
    for name in FAULTS:
        wanted[paths[f"{organism}_hepatic_{name}"]] += 1
    assert {path: asked.count(path) for path in set(asked)} == wanted

    # The same files from a folder.
    store = checkout / "results/shards" / organism
    (checkout / "results").rename(checkout / "through-portal")
    local = [row | {"url": f"file:{demo}/files/{Path(row['url']).name}"} for row in rows]
    mine = [row for row in local if row["accession"] in paths and row["output_type"] not in unused]
    write_manifest(mine, checkout / "resources/manifests/plain.tsv")
    finish(shell, "python -m megabase fetch-sources resources/manifests/plain.tsv")
    finish(shell, f"snakemake results/shards/{organism}/store.json {configure(checkout, 'plain', organism)}")
    assert len(portal.requests) == told + len(asked)
    assert_same_store(checkout / "through-portal/shards" / organism, store)
    names = read_table(checkout / "through-portal/shards" / organism / "tracks.parquet", "tracks")
    assert {"demo", "encode", "4dnucleome"} == set(names["data_source"])
