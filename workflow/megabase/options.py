"""What the subcommands share: their options, and what a path or name given on the command line stands for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from megabase import logs, memory

if TYPE_CHECKING:
    from megabase.settings.section import S

Paths = Annotated[list[Path], typer.Argument(help="input files or folders")]
Output = Annotated[Path, typer.Option("-o", "--output", help="file or folder to write")]
Scoring = Annotated[str, typer.Option(help="JSON, or a YAML file, of the section `scoring`")]
Settings = Annotated[str, typer.Option(help="JSON, or a YAML file, of this command's section of the config")]
Seed = Annotated[int, typer.Option(help="seed of every random draw")]
GenomeFolder = Annotated[Path, typer.Option("--genome", help="genome folder made by prepare-genome")]
GenesFolder = Annotated[
    str, typer.Option("--genes", help="folder made by prepare-genes; empty: no gene models")
]
GenomesFolder = Annotated[Path, typer.Option(help="folder that holds a genome folder for every organism")]
Manifest = Annotated[Path, typer.Option(help="manifest of the release; tells what each file is")]
TracksManifest = Annotated[
    str, typer.Option("--manifest", help="take the tracks of its groups, in the folder of an organism given")
]
Model = Annotated[Path, typer.Option(help="model folder")]
Intervals = Annotated[Path, typer.Option(help="windows by fold, made by assign-folds")]
Folds = Annotated[str, typer.Option(help="JSON, or a YAML file, of the section `folds`")]
Scheme = Annotated[str, typer.Option(help="fold scheme: which windows are held out")]
Organisms = Annotated[str, typer.Option(help="organisms in model index order, joined by commas")]
Regions = Annotated[str, typer.Option(help="BED of measured regions; empty: all")]
Blacklist = Annotated[str, typer.Option(help="BED of regions to mask; empty: none")]
Unmappable = Annotated[str, typer.Option(help="BED of unmappable bases to mask; empty: none")]
Threads = Annotated[int, typer.Option(min=1, help="processes; the bytes do not depend on them")]
BenchmarkName = Annotated[str, typer.Option(help="name of the benchmark")]
BenchmarkTable = Annotated[Path, typer.Argument(help="table.parquet of prepare-benchmark")]
Metadata = Annotated[
    list[str], typer.Option(help="organism=path of its track metadata; one each, human first, then mouse")
]
Processes = Annotated[int, typer.Option(help="processes that train together on a node, started by torchrun")]
Nodes = Annotated[int, typer.Option(help="nodes of the SLURM job that train together")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; default: cuda where there is one")]


def begin(command: str, section: type[S], settings: str, seed: int | None = None) -> S:
    """The settings of a command, after the header line of its log; FileError if they cannot be used."""
    from megabase.settings.section import parse_settings

    given = parse_settings(section, settings)
    logs.start(command, seed=seed, config_hash=given.hash())
    return given


def folder_of(path: Path) -> Path:
    """The folder that a path names itself, or through the file in it that describes it."""
    return path if path.is_dir() else path.parent


def optional(path: str) -> Path | None:
    """The path, or none where it is empty."""
    return Path(path) if path else None


def named_paths(values: list[str]) -> dict[str, Path]:
    """`{name: path}` of options `name=path`, in their order; ValueError for one of another form, or twice."""
    named: dict[str, Path] = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not (name and equals and path) or name in named:
            raise ValueError(f"{value!r}: wanted name=path, each name once")
        named[name] = Path(path)
    return named


def prepared_device(name: str) -> str:
    """The device asked for, else an accelerator where there is one; on a CPU, large blocks are kept."""
    import torch

    device = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        memory.keep_large_blocks()
    return device


def rows_of(paths: list[Path], manifest: Path) -> list[dict]:
    """Manifest rows of raw files, in the order of the files."""
    from megabase.sources.groups import Sheet
    from megabase.sources.manifest import read_manifest

    sheet = Sheet(read_manifest(manifest).to_dicts(), str(manifest))
    return [sheet.row_at(path) for path in paths]


def tracks_of(paths: list[Path], manifest: str) -> list[Path]:
    """Track folders: those given, or, with a manifest, those of its groups in the one folder of an organism.

    The second form is the workflow's: a release has thousands of tracks, more than a command line can hold.
    """
    from megabase.sources.groups import Sheet
    from megabase.sources.manifest import read_manifest

    if not manifest:
        return paths
    if len(paths) > 1:
        raise ValueError(
            f"{len(paths)} folders and a manifest; with --manifest give one, that of an organism"
        )
    sheet = Sheet(read_manifest(manifest).to_dicts(), manifest)
    return [Path(folder) for folder in sheet.track_folders(paths[0].name, str(paths[0].parent))]


def genomes_of(folder: Path, organisms: str) -> tuple[list[str], list[Path], list[Path | None]]:
    """Names of organisms, their genome folders, and their gene folders (none where a genome has none)."""
    names = organisms.split(",")
    genomes = [folder / name for name in names]
    return names, genomes, [genome / "genes" if (genome / "genes").is_dir() else None for genome in genomes]
