"""Questions that cannot be answered: one clear error each, before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predict_stand_ins import PLACE, make_model
from scoring_stand_ins import ToyPredictor, make_genome

from megabase.channels import rows_by_output
from megabase.files import FileError
from megabase.genome import Genome, Interval, parse_region
from megabase.predict import Predictor
from megabase.predict.request import select_tracks, sequence_codes
from megabase.sequence import decode
from megabase.variants import Variant


class Silent(ToyPredictor):
    """Fails when it is asked to predict: an error must come first."""

    def predict(self, *arguments: Any, **options: Any) -> dict:
        raise AssertionError("work was done for a question that is wrong")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(Silent())


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    return make_genome(tmp_path_factory.mktemp("genome"))


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ("ACGTN" * 400 + "ACGR", "letter 'R' at position 2004 of 2,004; wanted A, C, G, T or N"),
        ("AC GT", "letter ' ' at position 3"),
        ("", r"0 bases; wanted a multiple of 2,048, such as 2,048"),
        ("A" * 100, r"100 bases; wanted a multiple of 2,048, such as 2,048:"),
        ("A" * 5000, r"5,000 bases; wanted a multiple of 2,048, such as 4,096 or 6,144"),
        (np.full(2048, 5), "code 5 at position 1 of 2,048; wanted 0..4"),
        (np.array([0, 1, -1]), "code -1 at position 3"),
        (np.zeros((2048, 4), np.uint8), r"array of shape \(2048, 4\) and type uint8; wanted whole numbers"),
        (np.zeros(2048, np.float32), "type float32"),
    ],
)
def test_sequences(predictor: Predictor, sequence: str | np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predictor.predict_sequence(sequence)


def test_codes_of_texts_and_arrays_agree() -> None:
    text = "acgtnACGTN" * 2048
    assert np.array_equal(sequence_codes(text), sequence_codes(sequence_codes(text).astype(np.int32)))
    assert decode(sequence_codes(text)) == text.upper()


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        (Interval("chr1", 0, 4000), "interval chr1:0-4000: 4,000 bases; wanted a multiple of 2,048"),
        (Interval("chr9", 0, 4096), "chromosome 'chr9' is not in genome toy; it has chr1, chr2"),
        (Interval("chr2", 5000, 7048), r"lies beyond chr2 of genome toy \(5,000 bp\)"),
        (Interval("chr2", -2048, 0), "lies beyond chr2"),
    ],
)
def test_intervals(predictor: Predictor, genome: Genome, interval: Interval, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predictor.predict_interval(interval, genome)


def test_variants(predictor: Predictor, genome: Genome) -> None:
    ref = decode(genome.codes("chr1", 99, 101))
    other = "ACGT"[("ACGT".index(ref[0]) + 1) % 4]
    for variant, message in (
        (Variant("chr1", 99, other, "T" if other != "T" else "A"), "ref_mismatch: REF is .* has"),
        (Variant("chr1", 99, ref, "<DEL>"), "symbolic_allele"),
        (Variant("chr1", 99, ref, "<DEL:END=150>"), "is structural, .* score it in a variant set"),
        (Variant("chr1", 99, ref[0], ref[0] + "N"), "non_acgt"),
        (Variant("chr1", 99, ref[0], ref[0].lower()), "same_allele"),
        (Variant("chr2", 5000, "A", "C"), "off_the_end: chr2 has 5000 bp"),
        (Variant("chr1", 99, ref[0], ref[0] + "A" * 3000), "allele_too_long"),
        (Variant("chrX", 99, "A", "C"), "chromosome 'chrX' is not in genome toy"),
    ):
        with pytest.raises(ValueError, match=message):
            predictor.predict_variant(variant, genome)
    with pytest.raises(ValueError, match="window: 5,000 bases; wanted a multiple of 2,048"):
        predictor.predict_variant(Variant("chr1", 99, ref[0], other), genome, window=5000)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"outputs": ["rna"]}, "output type 'rna': the model has none for toy; it has rna_seq, cage"),
        ({"outputs": []}, "outputs: none named"),
        ({"ontology_terms": "CL:7"}, "ontology term 'cl:7': no track asked for has it; near it: CL:"),
        ({"biosamples": ["cell 0", "liver"]}, "biosample 'liver': no track asked for has it; near it: cell"),
        ({"strand": "x"}, r"strand 'x'; wanted one or more of \+, -, \."),
        ({"strand": ""}, "strand ''"),
        ({"outputs": ["contact_maps"], "strand": "+"}, "no track of toy meets all conditions"),
    ],
)  # fmt: skip
def test_tracks(predictor: Predictor, genome: Genome, choice: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predictor.predict_interval(PLACE, genome, **choice)
    with pytest.raises(ValueError, match=message):  # before the first answer is asked for
        predictor.predict_intervals([PLACE], genome, **choice)
    with pytest.raises(ValueError, match=message):
        predictor.tracks("toy", **choice)


def test_splice_sites_alone_name_no_biosample() -> None:
    tracks = rows_by_output([])
    with pytest.raises(ValueError, match="biosample 'liver': no track asked for has it; no track names one"):
        select_tracks(tracks, "toy", biosamples="liver")


def test_a_mistyped_option_is_named(predictor: Predictor, genome: Genome) -> None:
    with pytest.raises(TypeError, match="ontology_term"):
        predictor.predict_interval(PLACE, genome, ontology_term="CL:0")


def test_organisms(predictor: Predictor, genome: Genome, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="organism 'yeast'; model toy knows toy"):
        predictor.predict_sequence("A" * 2048, organism="yeast")
    two = Silent()
    two.organisms = ["human", "mouse"]
    with pytest.raises(ValueError, match="no organism was named; model toy knows human, mouse"):
        Predictor(two).predict_sequence("A" * 2048)
    with pytest.raises(ValueError, match="organism 'toy'; model toy knows human, mouse"):
        Predictor(two).predict_interval(PLACE, genome)


def test_junctions_need_sites(genome: Genome) -> None:
    model = Silent()
    del model.weights[next(o for o in model.weights if o == "splice_sites")]
    with pytest.raises(ValueError, match="splice_junctions: the model predicts no splice sites"):
        Predictor(model).predict_interval(PLACE, genome, outputs=["splice_junctions"])


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"model\.json: not found; wanted a model folder"):
        Predictor.from_pretrained(tmp_path)
    folder = make_model(tmp_path / "model")
    card = json.loads((folder / "model.json").read_text())
    card["info"]["tracks"]["toy"]["rna_seq"] *= 2  # tracks that the heads cannot hold
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="rna_seq: 6 tracks, but the model's head has 3 channels"):
        Predictor.from_pretrained(folder, device="cpu")
    with pytest.raises(ValueError, match="batch_size 0"):
        Predictor(Silent(), batch_size=0)


def test_regions_as_people_write_them() -> None:
    assert parse_region("chr1:1,001-2,000") == Interval("chr1", 1000, 2000)
    assert parse_region("chr1:5-5").length == 1
    for wrong in ("chr1", "chr1:10", "chr1:0-10", "chr1:20-10", "chr1:a-b", ":1-2", "chr1:,-2"):
        with pytest.raises(ValueError, match="wanted chrom:start-end, 1-based"):
            parse_region(wrong)
