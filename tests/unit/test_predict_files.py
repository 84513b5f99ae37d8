"""`megabase predict`: files that other tools read back, with the same numbers at the right places."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cooler
import numpy as np
import polars as pl
import pyBigWig
import pytest
from predict_stand_ins import CURIES, WINDOW, make_model
from scoring_stand_ins import LENGTH, make_genome

from megabase.cli import main
from megabase.files import FileError, hash_path, read_json, read_table
from megabase.genes import prepare_genes
from megabase.genome import Genome, Interval
from megabase.predict import Predictor
from megabase.predict.command import predict, window_of
from megabase.predict.writers import LEAST_COUNT
from megabase.sequence import decode
from megabase.spec import OutputType
from megabase.variants import Variant

REGION, START, END = "chr1:7,001-9,500", 7000, 9500


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model`, `genome` and `genes`."""
    folder = tmp_path_factory.mktemp("world")
    make_genome(folder)
    make_model(folder / "model")
    rows = [(7101, 7300, "+", "one"), (8001, 8400, "+", "one"), (8901, 9300, "-", "two")]
    text = "".join(
        f'chr1\ttoy\texon\t{a}\t{b}\t.\t{s}\t.\tgene_id "{g}"; transcript_id "t{g}";\n' for a, b, s, g in rows
    )
    (folder / "genes.gtf").write_text(text)
    prepare_genes(folder / "genes.gtf", folder / "genome", folder / "genes")
    return folder


@pytest.fixture(scope="module")
def genome(world: Path) -> Genome:
    return Genome.open(world / "genome")


@pytest.fixture(scope="module")
def predictor(world: Path) -> Predictor:
    return Predictor.from_pretrained(world / "model", device="cpu")


def ask(world: Path, name: str | Path, **options: Any) -> Path:
    """Predict with the model of the world into a folder of it."""
    return predict(world / "model", world / "genome", world / name, device="cpu", **options)


@pytest.fixture(scope="module")
def region(world: Path) -> Path:
    return predict(
        world / "model",
        world / "genome",
        world / "region",
        region=REGION,
        genes=world / "genes",
        device="cpu",
    )


@pytest.fixture(scope="module")
def deletion(genome: Genome) -> Variant:
    ref = decode(genome.codes("chr1", 8200, 8205))
    return Variant("chr1", 8200, ref, ref[0])


@pytest.fixture(scope="module")
def alleles(world: Path, deletion: Variant) -> Path:
    outputs = ["dnase", "chip_tf", "contact_maps", "splice_junctions"]
    terms = [CURIES["liver"]]
    return ask(world, "alleles", variant=deletion.variant_id, outputs=outputs, ontology_terms=terms)


def read_bigwig(path: Path, start: int, end: int) -> np.ndarray:
    """Values of chr1 [end - start], NaN where there are none."""
    with pyBigWig.open(str(path)) as handle:
        assert handle.chroms() == {"chr1": LENGTH, "chr2": 5000}
        return handle.values("chr1", start, end, numpy=True)


def test_a_region_lies_in_a_window_of_whole_bins(region: Path) -> None:
    card = read_json(region / "prediction.json", "prediction")
    assert card["window"]["start"] % 2048 == 0
    assert card["window"]["end"] - card["window"]["start"] == WINDOW
    assert card["region"] == {"chrom": "chr1", "start": START, "end": END}
    assert abs(sum(card["window"][k] for k in ("start", "end")) / 2 - (START + END) / 2) <= 1024
    assert set(card["megabase"]["inputs"]) == {"model.json", "sequence.json", "genes.parquet"}
    written = {str(p.relative_to(region)) for p in region.rglob("*") if p.is_file()}
    assert written == set(card["files"]) | {"prediction.json"}


def test_bigwigs_hold_the_prediction_of_the_region(
    region: Path, predictor: Predictor, genome: Genome
) -> None:
    window = read_json(region / "prediction.json", "prediction")["window"]
    found = predictor.predict_interval(Interval("chr1", window["start"], window["end"]), genome)
    tracks = read_table(region / "tracks.parquet", "prediction")
    assert tracks.height == sum(p.tracks.height for p in found.values())
    checked = 0
    for row in tracks.iter_rows(named=True):
        name = row["file"]
        if name is None or not name.endswith(".bw"):
            continue
        prediction = found[row["output_type"]]
        strand = {"+": "plus", "-": "minus", ".": "unstranded"}[row["strand"]]
        assert name.startswith(f"{row['output_type']}/{row['channel']:04d}.") and f".{strand}." in name
        values = read_bigwig(region / name, START - 50, END + 50)
        assert np.isnan(values[:50]).all() and np.isnan(values[-50:]).all()
        size = prediction.resolution
        bases = np.repeat(prediction.values[:, row["channel"]] / size, size)
        offset = START - prediction.interval.start
        np.testing.assert_array_equal(values[50:-50], bases[offset : offset + END - START])
        checked += 1
    assert checked == 7 * 3 + 5 + 4


def test_contacts_are_a_cooler_of_uniform_bins(region: Path, predictor: Predictor, genome: Genome) -> None:
    window = read_json(region / "prediction.json", "prediction")["window"]
    found = predictor.predict_interval(
        Interval("chr1", window["start"], window["end"]), genome, outputs=["contact_maps"]
    )["contact_maps"]
    names = read_table(region / "tracks.parquet", "prediction").filter(output_type="contact_maps")["file"]
    for channel, name in enumerate(names):
        matrix = cooler.Cooler(str(region / name))
        assert matrix.binsize == 2048 and matrix.chromnames == ["chr1"]
        part = found.crop(START, END)
        got = matrix.matrix(field="value", balance=False).fetch(
            ("chr1", part.interval.start, part.interval.end)
        )
        wanted = part.values[..., channel]
        np.testing.assert_allclose(np.triu(got), np.triu(wanted), rtol=1e-6)
        assert len(matrix.pixels()[:]) == len(got) * (len(got) + 1) // 2


def test_junctions_are_a_table(world: Path, predictor: Predictor, genome: Genome) -> None:
    output, place = OutputType.SPLICE_JUNCTIONS, Interval("chr1", 6144, 10240)
    folder = ask(world, "junctions", region="chr1:6200-10200", outputs=[output])
    found = predictor.predict_interval(place, genome, outputs=[output])
    part = found[output].crop(6199, 10200)
    table = read_table(folder / "splice_junctions.parquet", "prediction")
    assert table.height == (np.nan_to_num(part.values) >= LEAST_COUNT).sum() > 0
    keys = {(r["donor"], r["acceptor"], r["strand"]): i for i, r in enumerate(part.junctions.to_dicts())}
    for row in table.iter_rows(named=True):
        wanted = part.values[keys[row["donor"], row["acceptor"], row["strand"]], row["channel"]]
        assert row["value"] == pytest.approx(wanted, rel=1e-3)
        assert row["name"].endswith(row["strand"])


def test_both_alleles_are_written(
    alleles: Path, predictor: Predictor, genome: Genome, deletion: Variant
) -> None:
    card = read_json(alleles / "prediction.json", "prediction")
    assert card["variant"]["variant_id"] == deletion.variant_id and card["variant"]["position"] == 8200
    found = predictor.predict_variant(
        deletion, genome, outputs=["dnase", "chip_tf", "contact_maps"], ontology_terms=CURIES["liver"]
    )
    assert card["window"] == card["region"]
    assert (card["window"]["start"], card["window"]["end"]) == (found.interval.start, found.interval.end)
    tracks = read_table(alleles / "tracks.parquet", "prediction")
    assert set(tracks["biosample_name"]) == {"liver"}
    start, end = found.interval.start, found.interval.end
    for allele, predictions in (("ref", found.reference), ("alt", found.alternate)):
        for output in ("dnase", "chip_tf"):
            names = tracks.filter(output_type=output)[f"{allele}_file"].to_list()
            assert len(names) == 2 and all(name.endswith(f".{allele}.bw") for name in names)
            for place, name in enumerate(names):
                size = predictions[output].resolution
                wanted = np.repeat(predictions[output].values[:, place] / size, size)
                np.testing.assert_allclose(
                    read_bigwig(alleles / name, start, end), wanted, rtol=1e-3, atol=1e-5
                )
        (name,) = tracks.filter(output_type="contact_maps")[f"{allele}_file"]
        matrix = cooler.Cooler(str(alleles / name))
        bins = matrix.bins()[:]
        inside = bins[(bins["start"] >= start) & (bins["end"] <= end)]
        assert inside["start"].tolist() == [start, start + 2048]
        assert (
            bins["end"].iloc[-1] == LENGTH and (bins["start"].iloc[1:] == bins["end"].iloc[:-1].values).all()
        )
        got = matrix.matrix(field="value", balance=False)[inside.index[0] : inside.index[-1] + 1]
        values = got[:, inside.index[0] : inside.index[-1] + 1]
        wanted = predictions["contact_maps"].values[..., 0]
        np.testing.assert_allclose(np.triu(values), np.triu(wanted), rtol=1e-3, atol=1e-5)
    deleted = read_bigwig(alleles / tracks.filter(output_type="dnase")["alt_file"][0], 8201, 8205)
    assert (deleted == 0).all()
    table = read_table(alleles / "splice_junctions.parquet", "prediction")
    assert {"ref", "alt"} < set(table.columns) and set(table["biosample_name"]) == {"liver"}
    assert ((table["ref"] >= LEAST_COUNT) | (table["alt"] >= LEAST_COUNT)).all()


def test_the_same_question_gives_the_same_bytes(world: Path, region: Path) -> None:
    again = ask(world, "again", region=REGION, genes=world / "genes")
    assert hash_path(again) == hash_path(region)
    narrow = ask(world, "again", region=REGION, outputs=["atac"])
    assert not (narrow / "cage").exists() and (narrow / "atac").is_dir()  # replaced as a whole


def test_at_the_end_of_a_chromosome(
    world: Path, genome: Genome, predictor: Predictor, tmp_path: Path
) -> None:
    """The window reaches beyond both ends of chr2 (5,000 bp); only the chromosome is written."""
    ref = decode(genome.codes("chr2", 4900, 4901))
    variant = Variant("chr2", 4900, ref, "ACGT"[("ACGT".index(ref) + 1) % 4])
    options = {"window": 6 * 2048, "outputs": ["atac", "contact_maps"], "biosamples": ["brain"]}
    folder = ask(world, tmp_path / "out", variant=variant.variant_id, **options)
    found = predictor.predict_variant(variant, genome, **options)
    (path,) = (folder / "atac").glob("*.ref.bw")
    with pyBigWig.open(str(path)) as handle:
        values = handle.values("chr2", 0, 5000, numpy=True)
    offset = -found.interval.start
    assert offset > 0 and found.interval.end > 5000
    np.testing.assert_allclose(values, found.reference["atac"].values[offset : offset + 5000, 0], rtol=1e-3)
    (path,) = (folder / "contact_maps").glob("*.alt.cool")
    bins = cooler.Cooler(str(path)).bins()[:]
    assert bins["start"].iloc[0] == 0 and bins["end"].iloc[-1] == 5000


def test_windows_of_regions() -> None:
    assert window_of(Interval("chr1", 7000, 9500), 4096) == Interval("chr1", 6144, 10240)
    odd = Interval("chr1", 100, 100 + 4096)  # as long as the window: no grid fits
    assert window_of(odd, 4096) == odd
    with pytest.raises(
        ValueError, match=r"region chr1:1-5000 has 5,000 bases, more than the window of 4,096"
    ):
        window_of(Interval("chr1", 0, 5000), 4096)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "neither a region nor a variant was given: wanted --region or --variant"),
        ({"region": "chr1:1-5000"}, "region chr1:1-5000 has 5,000 bases, more than the window of 4,096"),
        ({"region": "chr1:39000-40001"}, "region chr1:39000-40001: chr1 of genome toy ends at 40,000"),
        ({"region": "chr7:1-100"}, "chromosome 'chr7' is not in genome toy"),
        ({"region": "chr1:100"}, "wanted chrom:start-end, 1-based"),
        ({"region": "chr1:1-100", "window": 3000}, "3,000 bases; wanted a multiple of 2,048"),
        ({"variant": "chr1:100"}, "is not chrom:position:ref:alt"),
        ({"variant": "chr1:100:A:<DEL>"}, "symbolic_allele"),
        ({"region": "chr1:20001-20100", "variant": "{variant}"}, "does not lie in the window of the variant"),
        ({"region": REGION, "outputs": ["methylation"]}, "output type 'methylation': the model has none"),
    ],
)
def test_bad_questions_leave_nothing(
    world: Path, deletion: Variant, tmp_path: Path, options: dict, message: str
) -> None:
    if "variant" in options:
        options = options | {"variant": options["variant"].format(variant=deletion.variant_id)}
    with pytest.raises(ValueError, match=message):
        ask(world, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_not_replaced(world: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(FileError, match="exists and holds no prediction"):
        ask(world, tmp_path, region=REGION)
    assert (tmp_path / "thesis.txt").exists()


def test_the_command_line(
    world: Path, genome: Genome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = decode(genome.codes("chr1", 8200, 8201))
    arguments = [
        "predict", str(world / "model" / "model.json"), "--genome", str(world / "genome"), "--genes",
        str(world / "genes"), "--variant", f"1:8201:{ref}:{ref}TT", "--region", "1:8,101-8,300", "--outputs",
        "rna_seq,dnase", "--ontology", CURIES["liver"].lower(), "--biosample", "liver", "--strand", "+-",
        "--reverse-complement", "--device", "cpu", "-o", str(tmp_path / "out"),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["megabase", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    card = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert card["region"] == {"chrom": "chr1", "start": 8100, "end": 8300}
    assert card["request"]["reverse_complement"] is True
    names = (
        read_table(tmp_path / "out" / "tracks.parquet", "prediction").select(pl.col("^.*_file$")).to_numpy()
    )
    assert sorted(names.ravel()) == [f for f in card["files"] if f.endswith(".bw")]
    assert sorted(Path(n).name for n in names.ravel() if n.startswith("dnase")) == [
        "0000.liver.plus.alt.bw", "0000.liver.plus.ref.bw",
        "0001.liver.minus.alt.bw", "0001.liver.minus.ref.bw",
    ]  # fmt: skip
