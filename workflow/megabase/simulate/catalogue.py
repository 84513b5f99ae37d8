"""What the demo portal holds: organisms, cell types and the fixed list of its files.

The list depends on nothing but this module, so that the workflow knows every file before the simulator has
run. `resources/manifests/demo.tsv` is written from it, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from megabase.files import atomic_path
from megabase.spec import MANIFEST_COLUMNS, OutputType

PORTAL = "demo"
FOLDER = "results/demo"  # where the workflow lets the simulator write
TRUTH = "truth"  # subfolder that no manifest lists


@dataclass(frozen=True, slots=True)
class Cell:
    """One biosample: its name, ontology CURIE, life stage and index among the cell types of the rule."""

    name: str
    curie: str
    life_stage: str
    index: int


HEPATIC = Cell("hepatic", "DEMO:0000001", "adult", 0)
NEURAL = Cell("neural", "DEMO:0000002", "embryonic", 1)
LYMPHOID = Cell("lymphoid", "DEMO:0000003", "adult", 2)
CELLS: dict[str, tuple[Cell, ...]] = {"alpha": (HEPATIC, NEURAL, LYMPHOID), "beta": (HEPATIC,)}
CELL_TF = {"hepatic": "HEPA1", "neural": "NEUR1", "lymphoid": "LYMP1"}  # the factor that marks a cell type


@dataclass(frozen=True, slots=True)
class Experiment:
    """One assay of one organism: replicates and relative depths are those of its files."""

    key: str  # last part of the accession
    assay: str
    output_type: str
    extension: str
    depths: tuple[float, ...] = (1.0,)  # relative sequencing depth, one a replicate
    strands: tuple[str, ...] = (".",)  # one file a strand; "" = one file that names the strand in each row
    target: str = ""


@dataclass(frozen=True, slots=True)
class DemoFile:
    """One file of the portal and the simulation parameters of its content."""

    accession: str
    extension: str
    organism: str
    cell: Cell | None
    experiment: Experiment
    replicate: int
    strand: str

    @property
    def name(self) -> str:
        """File name inside the portal's folder."""
        return f"{self.accession}.{self.extension}"

    @property
    def depth(self) -> float:
        """Relative sequencing depth of this replicate."""
        return self.experiment.depths[self.replicate - 1]

    @property
    def output_type(self) -> str:
        """Output type or role, as in the manifest."""
        return self.experiment.output_type


_O = OutputType
_TOTAL_RNA, _POLYA_RNA = "total RNA-seq", "polyA plus RNA-seq"


def experiments(organism: str, cell: Cell) -> tuple[Experiment, ...]:
    """Assays of one biosample; the second species has one replicate and fewer assays."""
    full = organism == "alpha"
    two = (1.0, 0.6) if full else (1.0,)
    shared = (
        Experiment("dnase", "DNase-seq", _O.DNASE, "bam", two),
        Experiment("atac", "ATAC-seq", _O.ATAC, "bam", two),
        Experiment("ctcf", "TF ChIP-seq", _O.CHIP_TF, "bigWig", two, target="CTCF"),
        Experiment("h3k27ac", "Histone ChIP-seq", _O.CHIP_HISTONE, "bigWig", two, target="H3K27ac"),
        Experiment("cage", "hCAGE", _O.CAGE, "ctss.bed.gz", two, ("",)),
        Experiment("rna", _TOTAL_RNA, _O.RNA_SEQ, "bigWig", two, ("+", "-")),
        Experiment("hic", "in situ Hi-C", _O.CONTACT_MAPS, "mcool"),
        Experiment("junctions", _TOTAL_RNA, _O.SPLICE_JUNCTIONS, "SJ.out.tab", two, ("",)),
        Experiment("usage", _TOTAL_RNA, _O.SPLICE_SITE_USAGE, "ssu.tsv", (1.0,), ("",)),
    )
    if not full:
        return shared
    factor = CELL_TF[cell.name]
    return (
        *shared,
        Experiment(factor.lower(), "TF ChIP-seq", _O.CHIP_TF, "bigWig", target=factor),
        Experiment("h3k4me3", "Histone ChIP-seq", _O.CHIP_HISTONE, "bigWig", target="H3K4me3"),
        Experiment("procap", "PRO-cap", _O.PROCAP, "bigWig", strands=("+", "-")),
        Experiment("polya_rna", _POLYA_RNA, _O.RNA_SEQ, "bigWig"),
    )


_STRAND_SUFFIX = {"+": "_plus", "-": "_minus", ".": "", "": ""}


def _measured(organism: str, cell: Cell, experiment: Experiment) -> Iterator[DemoFile]:
    for replicate in range(1, len(experiment.depths) + 1):
        for strand in experiment.strands:
            accession = f"{organism}_{cell.name}_{experiment.key}_rep{replicate}{_STRAND_SUFFIX[strand]}"
            yield DemoFile(accession, experiment.extension, organism, cell, experiment, replicate, strand)


def _annotation(organism: str) -> Iterator[DemoFile]:
    roles = [("genome", "fa.gz"), ("genes", "gtf.gz")] + [("variants", "vcf.gz")] * (organism == "alpha")
    for role, extension in roles:
        experiment = Experiment(role, "", role, extension)
        yield DemoFile(f"{organism}_{role}", extension, organism, None, experiment, 1, "")


def _qtls(organism: str, cell: Cell) -> Iterator[DemoFile]:
    for target in ("eqtl", "sqtl"):
        experiment = Experiment(target, _POLYA_RNA, "qtl", "credible_sets.tsv.gz", target=target)
        accession = f"{organism}_{cell.name}_{target}"
        yield DemoFile(accession, experiment.extension, organism, cell, experiment, 1, "")


def demo_files() -> tuple[DemoFile, ...]:
    """Every file of the demo portal, in the order of the manifest."""
    files: list[DemoFile] = []
    for organism, cells in CELLS.items():
        files += _annotation(organism)
        for cell in cells:
            for experiment in experiments(organism, cell):
                files += _measured(organism, cell, experiment)
            if organism == "alpha":
                files += _qtls(organism, cell)
    return tuple(files)


def manifest_row(file: DemoFile, folder: str) -> dict[str, str]:
    """The manifest's row of one file that lies in `folder`."""
    cell = file.cell
    measured = cell is not None
    values = {
        "portal": PORTAL,
        "accession": file.accession,
        "experiment": f"{file.organism}_{cell.name}_{file.experiment.key}" if measured else "",
        "assay": file.experiment.assay,
        "output_type": str(file.output_type),
        "organism": file.organism,
        "assembly": file.organism,
        "ontology_curie": cell.curie if measured else "",
        "biosample": cell.name if measured else "",
        "life_stage": cell.life_stage if measured else "",
        "strand": file.strand,
        "replicate": str(file.replicate) if measured and file.output_type != "qtl" else "",
        "target": file.experiment.target,
        "url": f"file:{folder}/{file.name}",
        "status": "released",
        "licence": "CC0-1.0",
    }
    return {column: values.get(column, "") for column in MANIFEST_COLUMNS}


def write_manifest(path: Path, folder: str = FOLDER) -> None:
    """Write the portal's manifest: plain TSV, empty cells where nothing is known before the simulation."""
    rows = [manifest_row(file, folder) for file in demo_files()]
    lines = ["\t".join(MANIFEST_COLUMNS)] + ["\t".join(row.values()) for row in rows]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
