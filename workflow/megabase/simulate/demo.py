"""simulate_demo: write the whole demo portal, its manifest and its truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import polars as pl

from megabase.files import Stamp, write_json, write_table
from megabase.logs import progress
from megabase.seeds import generator
from megabase.simulate import annotation, qtls
from megabase.simulate.alleles import Allele, random_allele
from megabase.simulate.catalogue import CELLS, TRUTH, DemoFile, demo_files, experiments, write_manifest
from megabase.simulate.genomes import DemoGenome, diverged_genome, new_genome
from megabase.simulate.measure import write_signal
from megabase.simulate.motifs import ACCEPTOR, DONOR, SCANNED
from megabase.simulate.state import State, derive_state

ELEMENTS = ("promoter", "enhancer", "boundary", "repeat", "unknown")


@dataclass(frozen=True)
class DemoSize:
    """How much is simulated; smaller numbers are for tests."""

    alpha: dict[str, int] = field(
        default_factory=lambda: {"chrA1": 2_500_000, "chrA2": 2_000_000, "chrA3": 1_500_000}
    )
    beta: dict[str, int] = field(default_factory=lambda: {"chrB1": 1_200_000, "chrB2": 800_000})
    variants: int = 5_000
    eqtls: int = 80  # causal ones a cell type
    sqtls: int = 50
    indel_share: float = 0.15  # of the variants that no QTL uses


@dataclass(slots=True)
class Population:
    """The variants of the first species: associations by (kind, cell index), and rsID and frequency of
    each.
    """

    associations: dict[tuple[str, int], list[qtls.Association]]
    names: dict[Allele, str]
    frequencies: dict[Allele, float]


def draw_population(state: State, seed: int, size: DemoSize) -> Population:
    """QTLs of every cell type, and other common variants up to `size.variants`."""
    pools = {"eqtl": qtls.causal_expression(state, seed), "sqtl": qtls.causal_splicing(state, seed)}
    associations = {}
    for kind, count in (("eqtl", size.eqtls), ("sqtl", size.sqtls)):
        for cell in CELLS["alpha"]:
            chosen = qtls.choose(pools[kind], cell.index, count, state, seed)
            associations[kind, cell.index] = qtls.with_neutrals(state, chosen, cell.index, seed)
    alleles = {a.allele for group in associations.values() for a in group}
    rng = generator(seed, "simulate", "variants")
    chromosomes = state.genome.chromosomes
    shares = [len(codes) / sum(map(len, chromosomes.values())) for codes in chromosomes.values()]
    taken = {(a.chrom, a.position) for a in alleles}
    while len(alleles) < size.variants:
        chrom = list(chromosomes)[int(rng.choice(len(shares), p=shares))]
        allele = random_allele(rng, chrom, chromosomes[chrom], size.indel_share)
        if allele is not None and (allele.chrom, allele.position) not in taken:
            alleles.add(allele)
            taken.add((allele.chrom, allele.position))
    ordered = sorted(alleles)
    names = {allele: f"rsd{number:06d}" for number, allele in enumerate(ordered, 1)}
    frequencies = {
        allele: float(f) for allele, f in zip(ordered, rng.uniform(0.05, 0.5, len(ordered)), strict=True)
    }
    return Population(associations, names, frequencies)


def effects_table(state: State, population: Population) -> pl.DataFrame:
    """True effect of every QTL row: ln fold change of expression (eqtl) or change of inclusion (sqtl)."""
    rows = []
    for (kind, cell), group in sorted(population.associations.items()):
        for a in group:
            gene = state.genome.genes[a.gene]
            rows.append({
                "variant_id": a.allele.variant_id, "chrom": a.allele.chrom, "position": a.allele.position,
                "ref": a.allele.ref, "alt": a.allele.alt, "gene_id": gene.gene_id,
                "cell": CELLS["alpha"][cell].name, "kind": kind, "effect": float(a.effect[cell]),
                "causal": a.causal, "offset": a.offset,
            })  # fmt: skip
    schema = {"variant_id": pl.String, "chrom": pl.String, "position": pl.Int64, "ref": pl.String,
              "alt": pl.String, "gene_id": pl.String, "cell": pl.String, "kind": pl.String,
              "effect": pl.Float64, "causal": pl.Boolean, "offset": pl.Int64}  # fmt: skip
    return pl.DataFrame(rows, schema=schema)


def elements_table(genomes: dict[str, DemoGenome]) -> pl.DataFrame:
    """Every planted element and site: organism, chrom, start, end (0-based half-open), kind, strand."""
    rows = [
        (organism, chrom, f.start, f.end, f.kind, "+" if f.strand > 0 else "-", f.kind in ELEMENTS)
        for organism, genome in genomes.items()
        for chrom, features in genome.features.items()
        for f in sorted(features, key=lambda f: (f.start, f.end, f.kind))
    ]
    names = ["organism", "chrom", "start", "end", "kind", "strand", "element"]
    return pl.DataFrame(rows, schema=names, orient="row")


def expression_table(states: dict[str, State]) -> pl.DataFrame:
    """True expression of every gene in every cell type of its organism."""
    rows = [
        (organism, gene.gene_id, cell.name, float(state.expression[number, cell.index]))
        for organism, state in states.items()
        for number, gene in enumerate(state.genome.genes)
        for cell in CELLS[organism]
    ]
    return pl.DataFrame(rows, schema=["organism", "gene_id", "cell", "expression"], orient="row")


def write_truth(folder: Path, states: dict[str, State], population: Population, seed: int) -> None:
    """Write effects, elements, expression and motifs: for tests, never read by the pipeline."""
    stamp = Stamp("truth", config_hash=str(seed))
    write_table(effects_table(states["alpha"], population), folder / "effects.parquet", stamp)
    genomes = {organism: state.genome for organism, state in states.items()}
    write_table(elements_table(genomes), folder / "elements.parquet", stamp)
    write_table(expression_table(states), folder / "expression.parquet", stamp)
    motifs = {m.name: {"consensus": m.consensus, "probabilities": m.matrix.round(4).tolist()}
              for m in (*SCANNED, DONOR, ACCEPTOR)}  # fmt: skip
    write_json({"alphabet": "ACGT", "motifs": motifs}, folder / "motifs.json", stamp)


def _write_junction_file(state: State, file: DemoFile, path: Path, seed: int) -> None:
    depths = next(
        e.depths for e in experiments(file.organism, file.cell) if e.key == "junctions"
    )  # usage counts the reads of all replicates
    rows = annotation.draw_junctions(state, file, depths, seed)
    if file.output_type == "splice_site_usage":
        annotation.write_usage(path, rows)
    else:
        annotation.write_junctions(path, state.genome, rows)


def _write_qtl_file(state: State, population: Population, file: DemoFile, path: Path, seed: int) -> None:
    rng = generator(seed, "simulate", "credible", file.accession)
    group = population.associations[file.experiment.target, file.cell.index]
    rows = [
        annotation.credible_row(a, file.cell.index, state.genome, population.names[a.allele], rng)
        for a in group
    ]
    annotation.write_credible_sets(path, rows)


def write_file(state: State, population: Population, file: DemoFile, path: Path, seed: int) -> None:
    """Write one file of the portal."""
    kind = file.output_type
    if kind == "genome":
        annotation.write_fasta(path, state.genome)
    elif kind == "genes":
        annotation.write_gtf(path, state.genome)
    elif kind == "variants":
        annotation.write_vcf(path, state.genome, population.names, population.frequencies)
    elif kind == "qtl":
        _write_qtl_file(state, population, file, path, seed)
    elif kind in ("splice_junctions", "splice_site_usage"):
        _write_junction_file(state, file, path, seed)
    else:
        write_signal(state, file, path, seed)


World = tuple[dict[str, State], Population, Path, int]  # states, variants, folder and seed
_world: list[World] = []  # of this process: told once, not with every file


def _begin(world: World) -> None:
    _world[:] = [world]


def _write(file: DemoFile) -> str:
    """Write a file of the process's world; returns its name."""
    states, population, folder, seed = _world[0]
    write_file(states[file.organism], population, file, folder / file.name, seed)
    return file.name


def _write_all(files: Sequence[DemoFile], world: World, processes: int) -> Iterator[str]:
    """Write files side by side; yields their names in order."""
    if processes == 1:
        _begin(world)
        yield from map(_write, files)
        return
    context = get_context("spawn")  # a fork would copy the locks of polars' threads
    with ProcessPoolExecutor(processes, context, _begin, (world,)) as pool:
        yield from pool.map(_write, files)


def simulate_demo(
    output: Path,
    seed: int,
    manifest: Path | None = None,
    size: DemoSize | None = None,
    *,
    processes: int = 1,
) -> None:
    """Write every file of the demo portal into `output`, and the truth into `output/truth`.

    manifest: where to write the portal's manifest, with URLs that point into `output`. The same seed gives
    the same bytes, by any number of processes. Raises OSError where the folder cannot be written.
    """
    output, size = Path(output), size or DemoSize()
    files = demo_files()
    with progress(len(files), "simulate demo", "files") as bar:
        alpha = new_genome(seed, "alpha", size.alpha)
        genomes = {"alpha": alpha, "beta": diverged_genome(seed, "beta", size.beta, alpha)}
        states = {organism: derive_state(genome) for organism, genome in genomes.items()}
        population = draw_population(states["alpha"], seed, size)
        output.mkdir(parents=True, exist_ok=True)
        for name in _write_all(files, (states, population, output, seed), processes):
            bar.advance(note=name)
        write_truth(output / TRUTH, states, population, seed)
    if manifest is not None:
        write_manifest(Path(manifest), str(output))
