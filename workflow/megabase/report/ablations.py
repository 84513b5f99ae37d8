"""The table of an ablation: what every model of it reaches, in long form, and its figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from megabase.benchmark.results import ALL
from megabase.files import Stamp, atomic_path, hash_path, read_tsv, write_tsv
from megabase.report.figures_ablation import ablation_figure
from megabase.report.figures_benchmark import metric_rows
from megabase.report.figures_tracks import MEAN
from megabase.report.inputs import read_benchmarks, read_evaluations
from megabase.settings.run import AblationSettings
from megabase.spec import ABLATION_COLUMNS
from megabase.style import png

NUMBERS = {"seed": pl.Int64, "resolution": pl.Int64, "n": pl.Int64}
NUMBERS |= dict.fromkeys(("value", "low", "high"), pl.Float64)
SCHEMA = {c: NUMBERS.get(c, pl.String) for c in ABLATION_COLUMNS}
SPLITS = ("test", "valid")  # the first that was evaluated is compared


@dataclass(frozen=True)
class Place:
    """A result of an ablation and where it belongs."""

    path: Path
    level: str
    series: str
    seed: int

    @classmethod
    def parse(cls, text: str) -> Place:
        """`path=level=series=seed`; ValueError for another form."""
        parts = text.rsplit("=", 3)
        if len(parts) != 4 or not parts[0] or not parts[1] or not parts[3].isdecimal():
            raise ValueError(f"{text!r}: wanted path=level=series=seed")
        return cls(Path(parts[0]), parts[1], parts[2], int(parts[3]))

    @property
    def benchmark(self) -> str | None:
        """Name of the benchmark whose result this is; none of a track evaluation. Paths are the interface."""
        return self.path.parent.name if self.path.parents[1].name == "benchmarks" else None

    def rows(self) -> pl.DataFrame:
        """Its numbers in ABLATION_COLUMNS, less what names the ablation."""
        if self.benchmark is None:
            table, model = read_evaluations([self.path]), self.path.parent.name
            split = next((s for s in SPLITS if s in set(table["split"])), None)
            table = table.filter((pl.col("track") == MEAN) & (pl.col("split") == split))
        else:
            table, model = read_benchmarks({self.benchmark: [self.path]})[self.benchmark], self.path.stem
            table = metric_rows(table).filter(pl.col("group") == ALL)
        named = table.with_columns(
            level=pl.lit(self.level), series=pl.lit(self.series), seed=pl.lit(self.seed), model=pl.lit(model)
        )
        absent = [c for c in ABLATION_COLUMNS if c not in named.columns]
        return named.with_columns(pl.lit(None).alias(c) for c in absent)


def typed(table: pl.DataFrame) -> pl.DataFrame:
    """ABLATION_COLUMNS as text and numbers, whatever a file of nulls was read as."""
    known = table.select(pl.col(c).cast(kind, strict=False) for c, kind in SCHEMA.items())
    return known.with_columns(pl.col("series").fill_null(""))


def tabulate_ablation(
    results: Sequence[str], name: str, settings: AblationSettings, output: str | Path
) -> pl.DataFrame:
    """Write the table of an ablation (ABLATION_COLUMNS) and, beside it, its figure as PNG.

    results: `path=level=series=seed` of every evaluation and benchmark result. Evaluations give their means
    over tracks on the test windows (validation windows where no others were evaluated), benchmarks theirs
    over groups. FileError if a result cannot be read.
    """
    places = [Place.parse(text) for text in results]
    named = [place.rows().with_columns(ablation=pl.lit(name), kind=pl.lit(settings.kind)) for place in places]
    table = pl.concat([typed(rows) for rows in named])
    output = Path(output)
    inputs = {"/".join(place.path.parts[-2:]): hash_path(place.path) for place in places}
    write_tsv(table, output, Stamp("ablation", settings.hash(), inputs))
    figure = ablation_figure(table, first_organism(table), settings.groups)
    with atomic_path(output.with_suffix(".png")) as temporary:
        temporary.write_bytes(png(figure))
    return table


def first_organism(table: pl.DataFrame) -> str | None:
    """The organism that was named first; none where only benchmarks were run."""
    return next(iter(organisms_of(table)), None)


def organisms_of(table: pl.DataFrame) -> list[str]:
    """Organisms in order of appearance."""
    return table["organism"].drop_nulls().unique(maintain_order=True).to_list()


def read_ablations(paths: Iterable[Path]) -> dict[str, pl.DataFrame]:
    """Tables by ablation."""
    return {path.stem: typed(read_tsv(path, "ablation")) for path in paths}
