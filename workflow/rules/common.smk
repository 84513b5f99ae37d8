# The configuration, the sheet of files, and the input functions that look things up in them. No rule is here.
import sys
from pathlib import Path

from megabase.config import load_config, section_json
from megabase.files import FileError, hash_json
from megabase.sources.groups import Sheet
from megabase.sources.manifest import read_manifest
from megabase.spec import TRACK_OUTPUTS

try:
    settings = load_config(
        config, ", ".join(map(str, workflow.configfiles)) or "config"
    )
    manifest = f"resources/manifests/{settings.release}.tsv"
    sheet = Sheet(read_manifest(manifest).to_dicts(), manifest, data=settings.data)
    demo = Sheet(read_manifest("resources/manifests/demo.tsv").to_dicts(), "demo")
except FileError as error:
    sys.exit(f"error: {error}")


wildcard_constraints:
    genome="|".join(settings.genomes),
    organism="|".join(settings.organisms),
    portal=r"[^/]+",
    file=r"[^/]+",
    group=r"[A-Za-z0-9_+.-]+",
    model=r"[A-Za-z0-9_+.-]+",
    scheme="|".join(settings.folds.schemes),
    seed=r"\d+",
    kind="mean|kmer",
    variants="|".join(settings.variant_sets),
    benchmark="|".join(settings.benchmarks) or "none",


def raw_files(rows):
    """Paths of the verified files of manifest rows."""
    return [f"<results>/raw/{sheet.file(row['accession'])}" for row in rows]


def accession_file(accession):
    """Path of an accession's verified file, in a list that is empty where the config names none."""
    return [f"<results>/raw/{sheet.file(accession)}"] if accession else []


def raw_key(wildcards):
    return f"{wildcards.portal}/{wildcards.file}"


def source_origin(wildcards):
    """The file on this machine that a manifest row copies, if it is one."""
    return sheet.local(raw_key(wildcards))


def source_url(wildcards):
    return sheet.url(raw_key(wildcards))


def source_md5(wildcards):
    """MD5 that the manifest states of a file, empty where it is unknown."""
    return sheet.row_at(raw_key(wildcards))["md5"] or ""


def source_size(wildcards):
    """Bytes that the manifest states of a file, empty where they are unknown."""
    return sheet.row_at(raw_key(wildcards))["size"] or ""


def genome_fasta(wildcards):
    return accession_file(settings.genomes[wildcards.genome].fasta)


def genome_gtf(wildcards):
    return accession_file(settings.genomes[wildcards.genome].genes)


def genome_regions(wildcards):
    return accession_file(settings.genomes[wildcards.organism].regions)


def genome_blacklist(wildcards):
    return accession_file(settings.genomes[wildcards.organism].blacklist)


def genome_settings(wildcards):
    return section_json(settings.genomes[wildcards.genome])


def group_rows(wildcards, output_type=None):
    return sheet.groups(wildcards.organism, output_type or wildcards.output_type)[
        wildcards.group
    ]


def track_files(wildcards):
    """Raw files of one track group."""
    return raw_files(group_rows(wildcards))


def contact_files(wildcards):
    """Raw files of one contact-map group."""
    return raw_files(group_rows(wildcards, "contact_maps"))


def splicing_files(wildcards):
    """Raw splice tables of an organism."""
    return raw_files(sheet.splicing(wildcards.organism))


def rows_hash(wildcards, input):
    """Hash of the manifest rows of a job's raw files: a changed row reruns the jobs that read it, and no others."""
    return hash_json([sheet.row_at(path) for path in input.files])


def track_folders(wildcards):
    """Folders of an organism's normalized tracks of every kind."""
    return sheet.track_folders(wildcards.organism, "<results>/tracks")


def split_files(wildcards):
    """BEDs of published folds, where the config asks for them."""
    if settings.folds.source != "manifest":
        return []
    return [
        path
        for name in settings.organisms
        for path in raw_files(sheet.role(name, "splits"))
    ]


def variant_genome(wildcards):
    """Sequence store of the genome that a variant set refers to."""
    return f"<results>/genome/{settings.variant_set(wildcards.variants).genome}/sequence.json"


def genes_folder(genome):
    """Gene tables of a genome, in a list that is empty where it has no gene models."""
    return (
        [f"<results>/genome/{genome}/genes"] if settings.genomes[genome].genes else []
    )


def organism_genes(wildcards):
    return genes_folder(wildcards.organism)


def training_genes(wildcards):
    """Gene tables of every organism that is trained."""
    return [path for name in settings.organisms for path in genes_folder(name)]


def variant_genes(wildcards):
    return genes_folder(settings.variant_set(wildcards.variants).genome)


def variant_vcf(wildcards):
    """VCF of a variant set: a file of the release, a path, or the one that its benchmark makes."""
    vcf = settings.variant_set(wildcards.variants).vcf
    if vcf is None:
        return f"<results>/benchmarks/{wildcards.variants}/variants.vcf.gz"
    return vcf if "/" in vcf else accession_file(vcf)


def variant_organism(wildcards):
    return settings.genomes[settings.variant_set(wildcards.variants).genome].organism


def variant_store(wildcards):
    """Training store of the organism of a variant set: the observed tracks of an explanation."""
    return f"<results>/shards/{variant_organism(wildcards)}"


def polya_sites(wildcards):
    """Table of polyadenylation sites of a variant set's organism, where the release has one."""
    return raw_files(sheet.role(variant_organism(wildcards), "polya_sites"))[:1]


def scoring_settings(wildcards):
    return section_json(settings.scoring_of(wildcards.variants))


def benchmark_tables(wildcards):
    return [
        path
        for name in settings.benchmarks[wildcards.benchmark].tables
        for path in accession_file(name)
    ]


def benchmark_genome(wildcards):
    return f"<results>/genome/{settings.benchmarks[wildcards.benchmark].genome}/sequence.json"


def benchmark_genes(wildcards):
    return genes_folder(settings.benchmarks[wildcards.benchmark].genome)


def benchmark_sources(wildcards, input):
    """Tables of a benchmark with the tissue and ontology term that each one measured: path=tissue=term."""
    rows = (sheet.row_at(path) for path in input.tables)
    return [
        f"{path}={row['biosample'] or ''}={row['ontology_curie'] or ''}"
        for path, row in zip(input.tables, rows)
    ]


def benchmark_settings(wildcards):
    return section_json(settings.benchmarks[wildcards.benchmark])


def member_seed(wildcards):
    return settings.member_seed(int(wildcards.seed))


def variant_settings(wildcards):
    return section_json(settings.variant_set(wildcards.variants))


def background_chunks(wildcards):
    """Raw scores of the variants that calibrate a model's quantiles."""
    name = settings.scoring.background
    return gather.variants(f"<results>/chunks/{name}/{wildcards.model}/{{scatteritem}}")


def folder_of_files(wildcards, output):
    """Folder that all outputs of a job lie in."""
    return str(Path(output.files[0]).parent)


def genomes_folder(wildcards, input):
    """Folder that holds the genome folder of every organism."""
    return str(Path(input.genomes[0]).parents[1])


def stores_folder(wildcards, input):
    """Folder that holds the training store of every organism."""
    return str(Path(input.stores[0]).parent)


demo_folder = "results/demo"  # where the URLs of the demo's manifest point
training_stores = collect("<results>/shards/{organism}", organism=settings.organisms)
training_genomes = collect(
    "<results>/genome/{organism}/sequence.json", organism=settings.organisms
)
evaluations = collect(
    "<results>/evaluation/{model}/{organism}.tsv",
    model=settings.models,
    organism=settings.organisms,
)
score_sets = collect(
    "<results>/scores/{variants}/{model}",
    variants=settings.variant_sets,
    model=settings.students[:1],
)
benchmark_results = collect(
    "<results>/benchmarks/{benchmark}/{model}.tsv",
    benchmark=settings.benchmarks,
    model=[*settings.students[:1], "baselines"],
)
explanations = collect(
    "<results>/explanations/{variants}/{model}.json",
    variants=[settings.report.explain] if settings.report.explain else [],
    model=settings.students[:1],
)
