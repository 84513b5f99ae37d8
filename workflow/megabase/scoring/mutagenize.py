"""In-silico mutagenesis as a command: what every base of a stretch contributes to a score.

Every substitution is a variant that the engine scores in a window of its own, as it would score it in a VCF.
About a variant the same is done on the ALT sequence, whose positions are those of the ALT allele.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from megabase.files import FileError, Stamp, atomic_path, hash_json, hash_path, write_json, write_tsv
from megabase.logs import LOGGER
from megabase.scoring.annotation import Annotation
from megabase.scoring.engine import Engine
from megabase.scoring.mutagenesis import Question, answer
from megabase.scoring.scorers import Part, Scorer, parse_scorers, scorer_tracks
from megabase.spec import ALPHABET

if TYPE_CHECKING:
    from megabase.settings.scoring import ScoringSettings

KIND = "mutagenesis"
CARD = "mutagenesis.json"


def mutagenize(
    model_dir: str | Path,
    genome_folder: str | Path,
    output: str | Path,
    settings: ScoringSettings,
    *,
    scorer: str,
    region: str | None = None,
    variant: str | None = None,
    width: int = 128,
    tracks: Sequence[str] = (),
    gene: str | None = None,
    genes_folder: str | Path | None = None,
    polya_sites: str | Path | None = None,
    device: str = "cpu",
) -> None:
    """Mutate every base of a region, or of `width` bases about a variant on both alleles; write a folder.

    region: `chrom:start-end`, 1-based and closed. variant: `chrom:position:ref:alt`, 1-based. tracks: names,
    biosamples or ontology terms whose scores are averaged (default: all of the scorer). gene: id or name, for
    scorers of genes. Written: `mutagenesis.npz` (`ism` [W, 4], and `ism_alt`; `scores`, `scores_alt`: the
    substitutions' own scores, NaN at the base itself), `substitutions.tsv`, `mutagenesis.json`, `logo.png`.
    ValueError for a place, scorer, track or gene that there is not.
    """
    from megabase.genome import Genes, Genome
    from megabase.predictors.base import load_predictor
    from megabase.predictors.strands import BothStrands

    output = Path(output)
    if output.exists() and not (output / CARD).is_file():
        raise FileError(f"{output}: exists and holds no mutagenesis; name a folder that does not exist yet")
    genome = Genome.open(genome_folder)
    annotation = Annotation.from_tables(Genes.open(genes_folder), polya_sites) if genes_folder else None
    predictor = load_predictor(model_dir, device)
    if settings.reverse_complement:
        predictor = BothStrands(predictor)
    has_polya = annotation is not None and annotation.has_polya_sites
    (chosen,) = parse_scorers(
        [scorer],
        predictor.tracks(genome.organism),
        has_genes=annotation is not None,
        has_polya_sites=has_polya,
    )
    place, allele = _place(genome, region, variant, width)
    channels = choose_channels(scorer_tracks(chosen, predictor.tracks(genome.organism)), tracks)
    engine = Engine(predictor, genome, annotation, [chosen], settings)
    question = Question(*place, chosen, channels, choose_gene(engine, chosen, place, gene))
    arrays, sequences = answer(engine, question, allele)
    request = {"scorer": scorer, "region": region, "variant": variant, "width": width, "tracks": list(tracks),
               "gene": gene}  # fmt: skip
    inputs = {"model": hash_path(Path(model_dir) / "model.json")}
    stamp = Stamp(KIND, hash_json([request, settings.hash()]), inputs)
    with atomic_path(output) as folder:
        folder.mkdir()
        write_answer(folder, engine, question, allele, arrays, sequences, stamp)
    LOGGER.info("the mutagenesis is in %s", output)


def _place(
    genome: Any, region: str | None, variant: str | None, width: int
) -> tuple[tuple[str, int, int], Any]:
    """Chromosome, start and end of what is mutated, and the variant, in the genome's names."""
    from megabase.genome import parse_region
    from megabase.variants import Variant

    if (region is None) == (variant is None):
        raise ValueError("wanted a region or a variant, one of them")
    if region is not None:
        found = parse_region(region)
        chrom, start, end, allele = found.chrom, found.start, found.end, None
    else:
        allele = Variant.parse(variant)
        start = max(allele.position - width // 2, 0)
        chrom, end = allele.chrom, start + width
    name = genome.resolve(chrom)
    if name is None or (region is not None and end > genome.lengths[name]) or start >= genome.lengths[name]:
        raise ValueError(f"{region or variant}: not on a chromosome of genome {genome.name}")
    return (name, start, min(end, genome.lengths[name])), allele and replace(allele, chrom=name)


def choose_channels(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> tuple[int, ...]:
    """Channels whose name, biosample or ontology term is one of `names`, in any case; none given: all."""
    if not names:
        return tuple(range(len(rows)))
    found: set[int] = set()
    for name in names:
        keys = ("name", "biosample_name", "ontology_curie")
        matching = [
            i for i, r in enumerate(rows) if name.lower() in {str(r.get(k) or "").lower() for k in keys}
        ]
        if not matching:
            known = sorted({str(r.get("biosample_name") or r["name"]) for r in rows})
            raise ValueError(f"no track is of {name!r}; the scorer has {', '.join(known[:12])}")
        found |= set(matching)
    return tuple(sorted(found))


def choose_gene(engine: Engine, scorer: Scorer, place: tuple[str, int, int], gene: str | None) -> str | None:
    """Id of the gene that is read; ValueError where a scorer of genes has none, or several, to read."""
    if not scorer.has_genes:
        return None
    chrom, start, end = place
    if scorer.part is Part.EXONS:
        reach = engine.settings.window // 2
        near = engine.annotation.starting_in(chrom, start - reach, end + reach)
    else:
        near = engine.annotation.overlapping(chrom, start, end)
    known = ", ".join(g.gene_name or g.gene_id for g in near) or "none"
    chosen = near if gene is None else [g for g in near if gene in (g.gene_id, g.gene_name)]
    if len(chosen) != 1:
        raise ValueError(f"{scorer.name} reads one gene: wanted one of those in reach ({known})")
    return chosen[0].gene_id


def write_answer(
    folder: Path,
    engine: Engine,
    question: Question,
    variant: Any | None,
    arrays: dict[str, np.ndarray],
    sequences: dict[str, str],
    stamp: Stamp,
) -> None:
    """Write the files of a mutagenesis into a folder."""
    from megabase.logos import LONGEST, logo_figure
    from megabase.style import png

    np.savez_compressed(folder / "mutagenesis.npz", **arrays)
    rows = [
        (allele, question.chrom, question.start + i + 1, sequences[f"ism{key}"][i], ALPHABET[b], score)
        for key, allele in (("", "REF"), ("_alt", "ALT"))
        if f"scores{key}" in arrays
        for (i, b), score in np.ndenumerate(arrays[f"scores{key}"])
        if not np.isnan(score)
    ]
    schema = {"allele": pl.String, "chrom": pl.String, "position": pl.Int64, "ref": pl.String,
              "alt": pl.String, "score": pl.Float32}  # fmt: skip
    write_tsv(pl.DataFrame(rows, schema=schema, orient="row"), folder / "substitutions.tsv", stamp)
    tracks = [scorer_tracks(question.scorer, engine.tracks)[c] for c in question.channels]
    info = {
        "model": engine.predictor.name, "organism": engine.organism, "scorer": question.scorer.name,
        "tracks": [row["name"] for row in tracks], "gene_id": question.gene_id,
        "window": engine.settings.window, "variant": variant.variant_id if variant else None,
        "chrom": question.chrom, "start": question.start, "end": question.end, "sequences": sequences,
    }  # fmt: skip
    write_json(info, folder / CARD, stamp)
    if question.end - question.start > LONGEST:
        LOGGER.info("no logo is drawn of more than %d bases", LONGEST)
        return
    names = {"ism": "REF", "ism_alt": "ALT"}
    logos = [(names[key], arrays[key].astype(float), text) for key, text in sequences.items()]
    mark = (variant.position, variant.position + len(variant.ref)) if variant else None
    figure = logo_figure(logos, question.start, question.chrom, mark, _title(engine, question))
    (folder / "logo.png").write_bytes(png(figure))


def _title(engine: Engine, question: Question) -> str:
    """Scorer, gene and biosamples of a logo."""
    rows = scorer_tracks(question.scorer, engine.tracks)
    known = dict.fromkeys(rows[c].get("biosample_name") or rows[c]["name"] for c in question.channels)
    many = f"{len(known)} biosamples" if len(known) > 3 else ", ".join(known)
    found = engine.annotation.find(question.gene_id) if question.gene_id else []
    gene = [g.gene_name or g.gene_id for g in found[:1]]
    return " · ".join([question.scorer.name, *gene, many])
