"""What each job of the workflow reads, looked up in the configuration and in the manifest of the release.

The input and params functions of `workflow/rules/*.smk` are the methods of `Plan`; they take Snakemake's
wildcards (any object with those attributes) and give paths that begin with the path variable `<results>`.
Lists are empty where there is nothing to read.
"""

from __future__ import annotations

import gc
import inspect
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from megabase.ablations import Ablations, asked
from megabase.config import Config, load_config
from megabase.files import FileError
from megabase.settings.data import QualitySettings
from megabase.settings.run import CostSettings
from megabase.settings.scoring import ChunkSettings, ScoringSettings, is_bed_path, is_vcf_path
from megabase.settings.section import section_json
from megabase.sources.groups import Sheet, rows_identity
from megabase.sources.manifest import HOW_TO_LIST, TURNS, is_planned, read_manifest

DEMO_MANIFEST = "resources/manifests/demo.tsv"
DEMO_FOLDER = "results/demo"  # where the URLs of the demo's manifest point

# Which job gets a free core first. None is negative: Snakemake's solver prefers an idle core to such a job.
TRAINING_PRIORITY = 100  # the way to the scores: the ensemble, the student
FOLD_PRIORITY = 50  # long, but nothing long waits for it
SCORING_PRIORITY = 20  # a chain of jobs, before single ones (evaluations, baselines: 0)


def collect_rarely() -> None:
    """Let Python look for dead cycles every 100,000 new objects rather than every 700.

    A graph of tens of thousands of jobs is millions of objects that all live on: looking through them takes a
    fifth of the time of `snakemake -n`, and finds nothing.
    """
    gc.set_threshold(100_000, 20, 20)


class Plan:
    """Look-ups of one run."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        """`values` of a parsed config file named `source`; FileError if it or its manifest cannot be used."""
        self.settings: Config = load_config(dict(values), source)
        self.manifest = f"resources/manifests/{self.settings.release}.tsv"
        try:
            self.ablations = Ablations(self.settings)
        except ValueError as error:
            raise FileError(f"{source}: {error}") from None
        rows = read_manifest(self.manifest).to_dicts()
        self.sheet = Sheet(rows, self.manifest, data=self.settings.data)
        for key, accession in self.accessions():
            try:
                self.sheet.file(accession)
            except FileError as error:
                raise FileError(f"{source}: {key}: {error}") from None

    def accessions(self) -> Iterator[tuple[str, str]]:
        """`(key, accession)` of every file that the config names."""
        for name, genome in self.settings.genomes.items():
            for key in ("fasta", "genes", "regions", "blacklist", "unmappable"):
                if accession := getattr(genome, key):
                    yield f"genomes.{name}.{key}", accession
        for name, variants in self.settings.variants.items():
            if variants.vcf and not is_vcf_path(variants.vcf):
                yield f"variants.{name}.vcf", variants.vcf
            if (bed := variants.saturated_file) and not is_bed_path(bed):
                yield f"variants.{name}.saturate", bed
        for name, benchmark in self.settings.benchmarks.items():
            yield from ((f"benchmarks.{name}.tables", accession) for accession in benchmark.tables)

    def refuse_planned(self) -> None:
        """FileError if files of the release are only planned: such a manifest is good for dry runs."""
        if planned := [row["accession"] for row in self.sheet.rows if is_planned(row)]:
            raise FileError(
                f"{self.manifest}: {len(planned)} of {len(self.sheet.rows)} files are planned, not found, "
                f"such as {planned[0]}; it serves dry runs, {HOW_TO_LIST}"
            )

    def demo_files(self) -> list[str]:
        """Files that `simulate_demo` makes: those that the demo's manifest refers to."""
        return Sheet(read_manifest(DEMO_MANIFEST).to_dicts(), DEMO_MANIFEST).products(DEMO_FOLDER)

    # Files of the release

    def raw_files(self, rows: Iterable[Mapping[str, Any]]) -> list[str]:
        """Paths of the verified files of manifest rows."""
        return [path for row in rows for path in self.accession_file(row["accession"])]

    def accession_file(self, accession: str | None) -> list[str]:
        """Path of the verified file of an accession; FileError if the manifest does not have it."""
        return [f"<results>/raw/{self.sheet.file(accession)}"] if accession else []

    def source_origin(self, wildcards: Any) -> list[str]:
        """The file on this machine that a manifest row copies, if it is one."""
        return self.sheet.local(_file(wildcards))

    @cached_property
    def _source_settings(self) -> str:
        return shlex.quote(section_json(self.settings.sources))  # once, and not for every file of a release

    def source_manner(self, wildcards: Any, output: Any) -> str:
        """How files are fetched, and where the jobs keep the rate of requests to each host, as options.

        It asks for `output`, so that a change fetches nothing anew (see below).
        """
        turns = Path(output.file).parents[1] / TURNS
        return f"--turns {shlex.quote(str(turns))} --settings {self._source_settings}"

    def source_options(self, wildcards: Any) -> str:
        """URL of a file, with the folder of data filled in, and the checksums and size that are stated.

        As `URL --md5=... --size=...`, quoted for the shell. One string and not three, because a release has
        tens of thousands of files.
        """
        key = _file(wildcards)
        row = self.sheet.row_at(key)
        known = [f"--{name}={row[name]}" for name in ("md5", "size", "crc32c") if row.get(name)]
        return shlex.join([self.sheet.url(key), *known])

    # Genomes

    def genome_fasta(self, wildcards: Any) -> list[str]:
        """FASTA of a genome."""
        return self.accession_file(self.settings.genomes[wildcards.genome].fasta)

    def genome_gtf(self, wildcards: Any) -> list[str]:
        """GTF of a genome."""
        return self.accession_file(self.settings.genomes[wildcards.genome].genes)

    def genome_settings(self, wildcards: Any) -> str:
        """Settings of a genome."""
        return section_json(self.settings.genomes[wildcards.genome])

    def genome_regions(self, wildcards: Any) -> list[str]:
        """BED of the measured regions of an organism."""
        return self.accession_file(self.settings.genomes[wildcards.organism].regions)

    def genome_blacklist(self, wildcards: Any) -> list[str]:
        """BED of the regions of an organism whose signal is missing."""
        return self.accession_file(self.settings.genomes[wildcards.organism].blacklist)

    def genome_unmappable(self, wildcards: Any) -> list[str]:
        """BED of the unmappable bases of an organism."""
        return self.accession_file(self.settings.genomes[wildcards.organism].unmappable)

    def sequence(self, genome: str) -> str:
        """Description of a genome's sequence store."""
        return f"<results>/genome/{genome}/sequence.json"

    def genes(self, genome: str) -> list[str]:
        """Gene tables of a genome, none where it has no gene models."""
        return [f"<results>/genome/{genome}/genes"] if self.settings.genomes[genome].genes else []

    def organism_genes(self, wildcards: Any) -> list[str]:
        """Gene tables of an organism."""
        return self.genes(wildcards.organism)

    # Tracks and training

    def track_files(self, wildcards: Any) -> list[str]:
        """Raw files of one track group."""
        return self.raw_files(self.sheet.groups(wildcards.organism, wildcards.output_type)[wildcards.group])

    def contact_files(self, wildcards: Any) -> list[str]:
        """Raw files of one contact-map group."""
        return self.raw_files(self.sheet.groups(wildcards.organism, "contact_maps")[wildcards.group])

    def splicing_files(self, wildcards: Any) -> list[str]:
        """Raw splice tables of an organism."""
        return self.raw_files(self.sheet.splicing(wildcards.organism))

    # A param whose function asks for `input` or `output` is no reason for Snakemake to run a job again; any
    # other is. So a changed row reruns the jobs that read it, and another name of the manifest reruns none.

    def track_rows(self, wildcards: Any) -> str:
        """Hash of what a job reads of the manifest rows of one track group."""
        return rows_identity(self.sheet.groups(wildcards.organism, wildcards.output_type)[wildcards.group])

    def contact_rows(self, wildcards: Any) -> str:
        """Hash of what a job reads of the manifest rows of one contact-map group."""
        return rows_identity(self.sheet.groups(wildcards.organism, "contact_maps")[wildcards.group])

    def splicing_rows(self, wildcards: Any) -> str:
        """Hash of what a job reads of the manifest rows of an organism's splice tables."""
        return rows_identity(self.sheet.splicing(wildcards.organism))

    def manifest_path(self, wildcards: Any, output: Any) -> str:
        """The manifest of the release, by a name that may differ from release to release."""
        return self.manifest

    def track_folders(self, wildcards: Any) -> list[str]:
        """What describes each of an organism's normalized tracks, of every kind."""
        folders = self.sheet.track_folders(wildcards.organism, "<results>/tracks")
        return [f"{folder}/track.json" for folder in folders]

    def track_settings(self) -> str:
        """How tracks are normalized, whatever is asked of their quality."""
        neutral = {"quality": QualitySettings()}
        return section_json(self.settings.tracks.model_copy(update=neutral))

    def track_exclusions(self, wildcards: Any) -> list[str]:
        """Quality table of an organism, where the config leaves flagged tracks out."""
        name = f"<results>/tracks/{wildcards.organism}/quality.tsv"
        return [name] if self.settings.tracks.quality.exclude else []

    def split_files(self, wildcards: Any) -> list[str]:
        """BEDs of published folds, where the config asks for them."""
        if self.settings.folds.source != "manifest":
            return []
        rows = (row for name in self.settings.organisms for row in self.sheet.role(name, "splits"))
        return self.raw_files(rows)

    def homology_tables(self, wildcards: Any) -> list[str]:
        """Tables of aligned intervals whose stretches share a fold."""
        return [pairs.path for pairs in self.settings.folds.homology_pairs]

    def split_options(self, wildcards: Any, input: Any) -> str:
        """`--splits BED` of every BED of published folds, quoted for the shell."""
        return " ".join(f"--splits {shlex.quote(str(path))}" for path in input.splits)

    def stores(self) -> list[str]:
        """Training stores in model index order."""
        return [f"<results>/shards/{name}/store.json" for name in self.settings.organisms]

    def genomes(self) -> list[str]:
        """Sequence stores of the trained organisms, in model index order."""
        return [self.sequence(name) for name in self.settings.organisms]

    def training_genes(self) -> list[str]:
        """Gene tables of the trained organisms that have any."""
        return [path for name in self.settings.organisms for path in self.genes(name)]

    def teacher_priority(self, wildcards: Any) -> int:
        """Priority of training one teacher: the student waits for those of the ensemble.

        A fold teacher, for which an evaluation alone waits, fills the cores that the student leaves free.
        """
        return TRAINING_PRIORITY if wildcards.scheme == "all" else FOLD_PRIORITY

    def members(self, wildcards: Any, file: str) -> list[str]:
        """A file of every teacher of a fold scheme."""
        teachers = self.settings.teachers_of(wildcards.scheme)
        return [f"<results>/models/{teacher}/{file}" for teacher in teachers]

    def member_cards(self, wildcards: Any) -> list[str]:
        """Cards of the teachers of a fold scheme."""
        return self.members(wildcards, "model.json")

    def member_weights(self, wildcards: Any) -> list[str]:
        """Weights of the teachers of a fold scheme."""
        return self.members(wildcards, "model.safetensors")

    def member_seed(self, wildcards: Any) -> int:
        """Seed of one model of an ensemble."""
        return self.settings.member_seed(int(wildcards.seed))

    # Models, named with or without the window that they are asked with

    def model_card(self, wildcards: Any) -> str:
        """Card of a model."""
        return f"<results>/models/{asked(wildcards.model)[0]}/model.json"

    def model_weights(self, wildcards: Any) -> str:
        """Weights of a model."""
        return f"<results>/models/{asked(wildcards.model)[0]}/model.safetensors"

    def evaluation_settings(self, wildcards: Any) -> str:
        """How a model is evaluated."""
        return section_json(self.ablations.evaluation_settings(wildcards.model))

    # Variants and benchmarks

    def _genome_of(self, wildcards: Any) -> str:
        return self.settings.variant_set(wildcards.variants).genome

    def _organism_of(self, wildcards: Any) -> str:
        return self.settings.genomes[self._genome_of(wildcards)].organism

    def variant_genome(self, wildcards: Any) -> str:
        """Sequence store that the alleles of a variant set refer to."""
        return self.sequence(self._genome_of(wildcards))

    def variant_genes(self, wildcards: Any) -> list[str]:
        """Gene tables of the genome of a variant set."""
        return self.genes(self._genome_of(wildcards))

    def variant_store(self, wildcards: Any) -> list[str]:
        """Training store with the observed tracks about a variant; none where its genome has no tracks."""
        genome = self._genome_of(wildcards)
        return [f"<results>/shards/{genome}/store.json"] if genome in self.settings.organisms else []

    def variant_vcf(self, wildcards: Any) -> list[str]:
        """VCF of a variant set: a file of the release, a path, or the one that its benchmark makes."""
        vcf = self.settings.variant_set(wildcards.variants).vcf
        if vcf is None:
            return [f"<results>/benchmarks/{wildcards.variants}/variants.vcf.gz"]
        return [vcf] if is_vcf_path(vcf) else self.accession_file(vcf)

    def variant_source(self, wildcards: Any) -> list[str]:
        """What the variants of a set are read from: its VCF, or the BED or the genome that it saturates."""
        chosen = self.settings.variant_set(wildcards.variants)
        if chosen.saturate is None:
            return self.variant_vcf(wildcards)
        if (bed := chosen.saturated_file) is None:
            return [self.variant_genome(wildcards)]
        return [bed] if is_bed_path(bed) else self.accession_file(bed)

    def variant_haplotypes(self, wildcards: Any) -> list[str]:
        """Table of the alleles on the sample's haplotypes, of a set that is scored on them."""
        name = wildcards.variants
        own = self.settings.variant_set(name).haplotypes
        return [f"<results>/variants/{name}/haplotypes.parquet"] if own else []

    def variant_regions(self, wildcards: Any) -> list[str]:
        """BED of the regions of a set that is scored on haplotypes."""
        regions = self.settings.variant_set(wildcards.variants).regions
        return [regions] if regions else []

    def variant_window(self, wildcards: Any) -> int:
        """Bases that the structural variants of a set must fit."""
        return self.settings.scoring_of(wildcards.variants).window

    def variant_settings(self, wildcards: Any) -> str:
        """Settings of a variant set."""
        return section_json(self.settings.variant_set(wildcards.variants))

    def set_scoring_settings(self, wildcards: Any) -> str:
        """Scoring settings of a variant set, whatever the model."""
        return section_json(self.settings.scoring_of(wildcards.variants))

    def scoring_settings(self, wildcards: Any) -> str:
        """Scoring settings of a variant set, in the window that a model is asked with."""
        settings, (_, window) = self.settings.scoring_of(wildcards.variants), asked(wildcards.model)
        no_matter = {"uncertainty": None, "compare": ScoringSettings.model_fields["compare"].default}
        changes = no_matter | ({"window": window} if window else {})
        return section_json(settings.model_copy(update=changes))

    def placement_settings(self, wildcards: Any) -> str:
        """As `scoring_settings`, with how many variants are compared."""
        settings, (_, window) = self.settings.scoring_of(wildcards.variants), asked(wildcards.model)
        changes = {"uncertainty": None} | ({"window": window} if window else {})
        return section_json(settings.model_copy(update=changes))

    def calibration_settings(self, wildcards: Any) -> str:
        """How quantiles are made."""
        return section_json(self.settings.scoring.model_copy(update={"uncertainty": None}))

    def uncertainty_model(self, wildcards: Any) -> str | None:
        """The ensemble whose spread a student's scores are given, in its window; none if not set."""
        model, _, window = wildcards.model.partition("@")
        ensemble = self.settings.scoring.uncertainty
        if ensemble is None or model not in self.settings.students:
            return None
        return f"{ensemble}@{window}" if window else ensemble

    def polya_sites(self, wildcards: Any) -> list[str]:
        """Table of polyadenylation sites of a variant set's organism, where the release has one."""
        return self.raw_files(self.sheet.role(self._organism_of(wildcards), "polya_sites"))[:1]

    def benchmark_tables(self, wildcards: Any) -> list[str]:
        """Raw tables of a benchmark's measured effects."""
        tables = self.settings.benchmarks[wildcards.benchmark].tables
        return [path for accession in tables for path in self.accession_file(accession)]

    def benchmark_sources(self, wildcards: Any, input: Any) -> list[str]:
        """Tables of a benchmark with the tissue and ontology term of each: path=tissue=term."""
        rows = [self.sheet.row_at(path) for path in input.tables]
        tissues = [f"{row['biosample'] or ''}={row['ontology_curie'] or ''}" for row in rows]
        return [f"{path}={tissue}" for path, tissue in zip(input.tables, tissues, strict=True)]

    def benchmark_genome(self, wildcards: Any) -> str:
        """Sequence store that a benchmark's variants refer to."""
        return self.sequence(self.settings.benchmarks[wildcards.benchmark].genome)

    def benchmark_genes(self, wildcards: Any) -> list[str]:
        """Gene tables of a benchmark's genome."""
        return self.genes(self.settings.benchmarks[wildcards.benchmark].genome)

    def benchmark_settings(self, wildcards: Any) -> str:
        """Settings of a benchmark."""
        return section_json(self.settings.benchmarks[wildcards.benchmark])

    def benchmark_chromosomes(self, wildcards: Any) -> str:
        """Chromosomes whose variants a benchmark uses; empty: all."""
        return ",".join(self.settings.benchmark_chromosomes(wildcards.benchmark))

    def benchmark_scores(self, wildcards: Any) -> str:
        """Scores that a benchmark judges: of its own variants, or of the set that it shares."""
        return f"<results>/scores/{self.settings.variants_of(wildcards.benchmark)}/{wildcards.model}"

    # What the report shows

    def scoring_models(self) -> Sequence[str]:
        """The models that score variants: the first student."""
        return self.settings.students[:1]

    def evaluations(self) -> list[str]:
        """Track evaluations of every model with held-out windows, on every organism."""
        models, organisms = self.settings.evaluated_models, self.settings.organisms
        return [f"<results>/evaluation/{model}/{name}.tsv" for model in models for name in organisms]

    def uncertainties(self) -> list[str]:
        """Calibrated spreads of every model that tells one, on every organism."""
        models, organisms = self.settings.uncertain_models, self.settings.organisms
        return [f"<results>/uncertainty/{model}/{name}.tsv" for model in models for name in organisms]

    def scores(self) -> list[str]:
        """Scores of every variant set."""
        sets = self.settings.variant_sets
        return [f"<results>/scores/{name}/{model}" for name in sets for model in self.scoring_models()]

    def saturations(self) -> list[str]:
        """Dense tracks of every set of all SNVs of a place."""
        sets = self.settings.saturated_sets
        return [f"<results>/saturation/{name}/{m}" for name in sets for m in self.scoring_models()]

    def benchmarks(self) -> list[str]:
        """Results of every benchmark: the student and the plain baselines."""
        models = [*self.scoring_models(), "baselines"]
        return [f"<results>/benchmarks/{name}/{m}.tsv" for name in self.settings.benchmarks for m in models]

    def report_settings(self) -> str:
        """The whole config but what a GPU does in an hour and how jobs are cut, which change no result."""
        neutral = {"cost": CostSettings(), "chunks": ChunkSettings()}
        return section_json(self.settings.model_copy(update=neutral))

    def placements(self) -> list[str]:
        """How much scores depend on where windows lie, of the set that the report explains from."""
        sets = [self.settings.report.explain] if self.settings.report.explain else []
        if not self.settings.scoring.compare:
            return []
        return [f"<results>/placements/{name}/{m}.tsv" for name in sets for m in self.scoring_models()]

    def explanations(self) -> list[str]:
        """The variant that the report explains."""
        sets = [self.settings.report.explain] if self.settings.report.explain else []
        return [f"<results>/explanations/{name}/{m}.json" for name in sets for m in self.scoring_models()]


for _lookup in vars(Plan).values():
    if inspect.isfunction(_lookup):  # Snakemake asks for it five times a job: made once, it is there
        _lookup.__signature__ = inspect.signature(_lookup)


def _file(wildcards: Any) -> str:
    return f"{wildcards.portal}/{wildcards.file}"


def genomes_folder(wildcards: Any, input: Any) -> str:
    """Folder that holds the genome folder of every organism of a job."""
    return str(Path(input.genomes[0]).parents[1])


def stores_folder(wildcards: Any, input: Any) -> str:
    """Folder that holds the training store of every organism of a job."""
    return str(Path(input.stores[0]).parents[1])


def chunks_folder(wildcards: Any, input: Any) -> str:
    """Folder that holds all chunks of a job: a command line cannot hold thousands of them."""
    return str(Path(input.chunks[0]).parents[1])


def uncertainty_folder(wildcards: Any, input: Any) -> str:
    """Folder that holds the chunks of the ensemble whose spread is joined; empty: there is none."""
    return str(Path(input.uncertainty[0]).parents[1]) if input.uncertainty else ""


def files_folder(wildcards: Any, output: Any) -> str:
    """Folder that the files made by a job lie in."""
    return str(Path(output.files[0]).parent)
