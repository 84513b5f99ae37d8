"""A release that is not listed yet: a manifest of the published size, to see what a run of it would be.

Made of a config and the published track metadata. A row stands for a file that somebody has to find: its
accession says `planned`, its status too, and its URL names no portal. A dry run and the cost of a run can be
told from it; a run refuses it. Which files are averaged into a track is not published file by file, so their
number is an assumption, told here and counted by assay in `FILES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from megabase.config import Config, load_config
from megabase.files import FileError
from megabase.logs import LOGGER
from megabase.predictors.metadata import read_metadata
from megabase.settings.scoring import is_bed_path, is_vcf_path
from megabase.sources.manifest import PLANNED, is_planned, read_manifest, write_manifest
from megabase.spec import OutputType

# Files of a channel: (output type, source, files, what follows the first dot of a name); the first line
# that fits counts. Known: a bigWig an experiment of RNA-seq, ChIP-seq and PRO-cap, a BAM a replicate of
# DNase-seq and ATAC-seq, a table a sample of CAGE (both strands), a .mcool a contact map, and a bigWig for
# each of GTEx's 17,382 samples (v8) in 54 tissues. Assumed: how many experiments or replicates the others
# have, and splice tables that are merged to one a tissue for GTEx.
FILES: tuple[tuple[OutputType, str, int, str], ...] = (
    (OutputType.RNA_SEQ, "gtex", 322, "bw"),
    (OutputType.RNA_SEQ, "", 2, "bigWig"),
    (OutputType.CAGE, "", 4, "ctss.bed.gz"),
    (OutputType.PROCAP, "", 1, "bigWig"),
    (OutputType.DNASE, "", 3, "bam"),
    (OutputType.ATAC, "", 3, "bam"),
    (OutputType.CHIP_HISTONE, "", 2, "bigWig"),
    (OutputType.CHIP_TF, "", 2, "bigWig"),
    (OutputType.CONTACT_MAPS, "", 1, "mcool"),
    (OutputType.SPLICE_SITE_USAGE, "gtex", 1, "ssu.tsv.gz"),
    (OutputType.SPLICE_SITE_USAGE, "", 2, "ssu.tsv.gz"),
    (OutputType.SPLICE_JUNCTIONS, "gtex", 1, "SJ.out.tab.gz"),
    (OutputType.SPLICE_JUNCTIONS, "", 2, "SJ.out.tab.gz"),
)
BOTH_STRANDS = (OutputType.CAGE, OutputType.SPLICE_SITE_USAGE, OutputType.SPLICE_JUNCTIONS)  # in one file
GENOME_ROLES = {"fasta": "genome", "genes": "genes", "regions": "regions", "blacklist": "regions"}
EXTENSIONS = {
    "genome": "fa.gz", "genes": "gtf.gz", "regions": "bed.gz", "splits": "bed.gz", "variants": "vcf.gz",
    "qtl": "tsv.gz", "mpra": "tsv.gz",
}  # fmt: skip


def plan_sources(
    config: str | Path, output: str | Path, *, metadata: Mapping[str, str | Path]
) -> list[dict[str, Any]]:
    """Write a manifest of planned rows for a config and return them.

    metadata: by organism of the config the published track metadata (text protocol buffer, plain or gzip).
    FileError for an organism without metadata, and where `output` is a manifest with files that do exist.
    """
    settings = load_config(yaml.safe_load(Path(config).read_text(encoding="utf-8")), config)
    if missing := [name for name in settings.organisms if name not in metadata]:
        raise FileError(f"{config}: no metadata for {', '.join(missing)}; give --metadata {missing[0]}=PATH")
    if Path(output).exists() and (real := _listed(output)):
        raise FileError(f"{output}: lists {real} files that exist; remove it first, or write another file")
    rows = list(named_files(settings))
    for organism in settings.organisms:
        for channels in read_metadata(metadata[organism], organism).tracks.values():
            rows += [row for number, channel in enumerate(channels) for row in files_of(channel, number)]
    write_manifest(rows, output)
    LOGGER.info("sources: %d files planned, none listed", read_manifest(output).height)
    return rows


def _listed(manifest: str | Path) -> int:
    """Rows of a manifest that are not planned."""
    return sum(not is_planned(row) for row in read_manifest(manifest).iter_rows(named=True))


def files_of(channel: Mapping[str, Any], number: int) -> Iterator[dict[str, Any]]:
    """Planned rows of a row of TRACK_COLUMNS, the `number`-th of its output type.

    None for a class of splice sites, which the junctions tell, and for the - strand of files of both strands.
    """
    output, source = channel["output_type"], channel["data_source"]
    both = output in BOTH_STRANDS
    found = [(n, extension) for kind, of, n, extension in FILES if kind == output and of in ("", source)]
    if not found or (both and channel["strand"] == "-"):
        return
    count, extension = found[0]
    for replicate in range(1, count + 1):
        name = f"{PLANNED}-{channel['organism']}-{output}-{number}-{replicate}"
        yield {
            "portal": source, "accession": name, "assay": assay_of(channel), "output_type": str(output),
            "organism": channel["organism"], "ontology_curie": channel["ontology_curie"],
            "biosample": channel["biosample_name"], "life_stage": channel["life_stage"],
            "strand": None if both else channel["strand"], "replicate": replicate,
            "target": channel["target"], "url": f"{PLANNED}:{name}.{extension}", "status": PLANNED,
        }  # fmt: skip


def assay_of(channel: Mapping[str, Any]) -> str:
    """Assay of a channel, with what a track's name tells of its line behind the target.

    A line that was modified, or expresses a tagged protein, has a track of its own beside the plain one.
    """
    how = channel["name"].partition(f"{channel['assay']} {channel['target']}")[2]
    return f"{channel['assay']}{how}"


def named_files(settings: Config) -> Iterator[dict[str, Any]]:
    """Planned rows of the files that a config names by accession, and of the published folds."""
    genomes = settings.genomes
    for genome in genomes.values():
        for key, role in GENOME_ROLES.items():
            if accession := getattr(genome, key):
                yield _single(accession, role, genome.organism)
    for variants in settings.variants.values():
        if variants.vcf and not is_vcf_path(variants.vcf):
            yield _single(variants.vcf, "variants", genomes[variants.genome].organism)
    for accession, organism in _saturated(settings).items():
        yield _single(accession, "regions", organism)
    for accession, role, organism in _tables(settings):
        yield _single(accession, role, organism)
    if settings.folds.source == "manifest":
        yield from (_single(f"{PLANNED}-{name}-splits", "splits", name) for name in settings.organisms)


def _saturated(settings: Config) -> dict[str, str]:
    """Organism by accession of the BEDs that variant sets saturate, and that no genome names already."""
    known = {name for genome in settings.genomes.values() for name in (genome.regions, genome.blacklist)}
    sets = [item for item in settings.variants.values() if item.saturated_file]
    found = {str(item.saturated_file): settings.genomes[item.genome].organism for item in sets}
    return {bed: organism for bed, organism in found.items() if bed not in known and not is_bed_path(bed)}


def _tables(settings: Config) -> Sequence[tuple[str, str, str]]:
    """(accession, role, organism) of the benchmarks' tables, each once."""
    found: dict[str, tuple[str, str, str]] = {}
    for benchmark in settings.benchmarks.values():
        role = "mpra" if benchmark.task == "mpra" else "qtl"
        organism = settings.genomes[benchmark.genome].organism
        found |= {accession: (accession, role, organism) for accession in benchmark.tables}
    return list(found.values())


def _single(accession: str, role: str, organism: str) -> dict[str, Any]:
    return {
        "portal": PLANNED, "accession": accession, "output_type": role, "organism": organism,
        "url": f"{PLANNED}:{role}.{EXTENSIONS[role]}", "status": PLANNED,
    }  # fmt: skip
