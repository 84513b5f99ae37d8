"""`megabase predict`: a region or a variant in, a folder of tracks for a browser, tables and a plot out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from megabase.files import FileError, Stamp, atomic_path, hash_inputs, hash_json, write_json, write_table
from megabase.genome import Genes, Genome, Interval, parse_region
from megabase.logs import LOGGER
from megabase.predict.api import Predictor, chromosome
from megabase.predict.plots import region_figure
from megabase.predict.writers import Alleles, junction_table, on_chromosome, write_predictions
from megabase.spec import PAIR
from megabase.style import png
from megabase.variants import Variant

CARD = "prediction.json"
KIND = "prediction"


def predict(
    model: str | Path,
    genome: str | Path,
    output: str | Path,
    *,
    region: str | None = None,
    variant: str | None = None,
    window: int | None = None,
    genes: str | Path | None = None,
    device: str | None = None,
    **choice: Any,
) -> Path:
    """Write the predictions of a region, or of both alleles of a variant, into the folder `output`.

    region: `chrom:start-end`, 1-based and closed. variant: `chrom:position:ref:alt`, 1-based; with a region
    that region is written, else the whole window. The model reads `window` bases (default: those it was
    trained on) centred on the region, moved by at most 1,024 so that contact bins begin at multiples of
    2,048 where that fits, or exactly on the variant. choice: of `megabase.predict.api.Choice`. Written are
    bigWigs, .cool, `splice_junctions.parquet`, `tracks.parquet`, `prediction.json` and `plot.png`.

    ValueError for a region longer than the window or off its chromosome, a variant that scoring would
    reject, and tracks that the model lacks; FileError for folders that are not what they should be.
    """
    output = Path(output)
    if output.exists() and not (output / CARD).is_file():
        raise FileError(f"{output}: exists and holds no prediction; name a folder that does not exist yet")
    store = Genome.open(genome)
    models = Genes.open(genes) if genes else None
    predictor = Predictor.from_pretrained(model, device=device)
    place, allele = _question(store, region, variant)
    length = window or predictor.window
    read, alleles = _answers(predictor, store, place, allele, length, choice)
    shown = Interval(read.chrom, *on_chromosome(place or read, store))
    request = {"region": region, "variant": variant, "window": length, **_plain(choice)}
    stamp = Stamp(KIND, hash_json(request), _inputs(Path(model), Path(genome), genes))
    with atomic_path(output) as folder:
        folder.mkdir(parents=True)
        _write(folder, alleles, store, shown, stamp)
        card = _card(predictor, store, read, shown, allele, request, folder)
        figure = region_figure(alleles, shown, model=predictor.name, variant=allele, genes=models)
        (folder / "plot.png").write_bytes(png(figure))
        write_json(card, folder / CARD, stamp)
    LOGGER.info("predict: %d files in %s, plot.png shows them", len(card["files"]), output)
    return output


def _question(
    genome: Genome, region: str | None, variant: str | None
) -> tuple[Interval | None, Variant | None]:
    """The region and the variant asked for, in the genome's names."""
    if not region and not variant:
        raise ValueError("neither a region nor a variant was given: wanted --region or --variant")
    place, allele = None, None
    if region:
        place = parse_region(region)
        place = replace(place, chrom=chromosome(genome, place.chrom))
        if place.end > genome.lengths[place.chrom]:
            raise ValueError(
                f"region {region}: {place.chrom} of genome {genome.name} ends at "
                f"{genome.lengths[place.chrom]:,}"
            )
    if variant:
        allele = Variant.parse(variant)
        allele = replace(allele, chrom=chromosome(genome, allele.chrom))
    return place, allele


def _answers(
    predictor: Predictor,
    genome: Genome,
    place: Interval | None,
    variant: Variant | None,
    length: int,
    choice: Mapping[str, Any],
) -> tuple[Interval, Alleles]:
    """The interval that was read, and the predictions by allele."""
    if variant is None:
        read = window_of(place, length)
        return read, {"": predictor.predict_interval(read, genome, **choice)}
    found = predictor.predict_variant(variant, genome, window=length, **choice)
    if place is not None and not _inside(place, found.interval):
        raise ValueError(
            f"region {_text(place)} does not lie in the window of the variant, {_text(found.interval)}; name "
            "a region inside it, or a longer window"
        )
    return found.interval, {"ref": found.reference, "alt": found.alternate}


def window_of(region: Interval, length: int) -> Interval:
    """The window of `length` bases centred on a region; ValueError where the region is longer.

    It begins at the nearest multiple of 2,048, where the contact bins of a chromosome begin, unless the
    region would not fit then.
    """
    if region.length > length:
        raise ValueError(
            f"region {_text(region)} has {region.length:,} bases, more than the window of {length:,}; name a "
            f"shorter region, or a longer window (a multiple of {PAIR:,})"
        )
    exact = region.resize(length)
    start = round(exact.start / PAIR) * PAIR
    aligned = Interval(region.chrom, start, start + length)
    return aligned if _inside(region, aligned) else exact


def _inside(part: Interval, whole: Interval) -> bool:
    return part.chrom == whole.chrom and whole.start <= part.start and part.end <= whole.end


def _text(interval: Interval) -> str:
    """An interval as people write it: 1-based and closed."""
    return f"{interval.chrom}:{interval.start + 1}-{interval.end}"


def _inputs(model: Path, genome: Path, genes: str | Path | None) -> dict[str, str]:
    folder = model.parent if model.name == "model.json" else model
    files = [folder / "model.json", genome / "sequence.json"]
    return hash_inputs([*files, *([Path(genes) / "genes.parquet"] if genes else [])])


def _write(folder: Path, alleles: Alleles, genome: Genome, region: Interval, stamp: Stamp) -> None:
    tracks = write_predictions(alleles, genome, region, folder)
    write_table(tracks, folder / "tracks.parquet", stamp)
    junctions = junction_table(alleles, region)
    if junctions is not None:
        write_table(junctions, folder / "splice_junctions.parquet", stamp)


def _card(
    predictor: Predictor,
    genome: Genome,
    read: Interval,
    shown: Interval,
    variant: Variant | None,
    request: Mapping[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """The JSON of a prediction; intervals in it are 0-based half-open."""
    names = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
    place = ("chrom", "start", "end")
    return {
        "model": predictor.name,
        "organism": genome.organism,
        "genome": genome.name,
        "window": {key: getattr(read, key) for key in place},
        "region": {key: getattr(shown, key) for key in place},
        "variant": None if variant is None else {"variant_id": variant.variant_id} | asdict(variant),
        "request": dict(request),
        "files": sorted([*names, "plot.png"]),
    }


def _plain(choice: Mapping[str, Any]) -> dict[str, Any]:
    """A choice as JSON has it."""
    plain = (str, bool, type(None))
    return {k: v if isinstance(v, plain) else [str(x) for x in v] for k, v in choice.items()}
