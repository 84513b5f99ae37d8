"""The prediction API: the numbers of the model, of the tracks asked for, where they belong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from predict_stand_ins import CURIES, PLACE, WINDOW, close, finest, make_model
from scoring_stand_ins import ToyPredictor, make_genome, some_variants

from megabase.alignment import align_alternate
from megabase.augment import reverse_complement_predictions
from megabase.genome import Genome, Interval
from megabase.model.alphagenome import AlphaGenome
from megabase.model.heads import MultiOrganismLinear, choose_sites
from megabase.predict import Prediction, Predictor
from megabase.predictors.base import load_predictor
from megabase.sequence import decode, reverse_complement
from megabase.spec import OUTPUTS, TRACK_OUTPUTS, Kind, OutputType
from megabase.variants import Variant, allele_codes

JUNCTIONS, SITES = OutputType.SPLICE_JUNCTIONS, OutputType.SPLICE_SITES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "student-seed0")


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor.from_pretrained(folder, device="cpu")


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    return make_genome(tmp_path_factory.mktemp("genome"))


@pytest.fixture(scope="module")
def found(predictor: Predictor, genome: Genome) -> dict[OutputType, Prediction]:
    """Predictions of everything at PLACE."""
    return predictor.predict_interval(PLACE, genome)


def check_junctions(found: Prediction, matrix: torch.Tensor, positions: torch.Tensor, start: int) -> None:
    """Every row is the matrix's value at its donor and acceptor; no pair in transcription order is lost."""
    half, places = matrix.shape[-1] // 2, positions.tolist()
    for i, row in enumerate(found.junctions.iter_rows(named=True)):
        plus = row["strand"] == "+"
        d = places[0 if plus else 2].index(row["donor"] - start)
        a = places[1 if plus else 3].index(row["acceptor"] - start)
        assert (row["donor"] < row["acceptor"]) == plus
        on, off = (slice(0, half), slice(half, None)) if plus else (slice(half, None), slice(0, half))
        close(found.values[i, on], matrix[d, a, on])
        assert np.isnan(found.values[i, off]).all()
    count = sum(
        (a - d) * sign > 0
        for donors, acceptors, sign in ((places[0], places[1], 1), (places[2], places[3], -1))
        for d in donors for a in acceptors if d >= 0 and a >= 0
    )  # fmt: skip
    assert found.junctions.height == count > 0


def test_an_interval_has_the_numbers_of_the_model(
    predictor: Predictor, folder: Path, genome: Genome, found: dict[OutputType, Prediction]
) -> None:
    raw = load_predictor(folder).predict(genome.codes("chr1", PLACE.start, PLACE.end)[None], "toy")
    assert list(found) == list(raw) and set(found) == set(OutputType)
    for output, values in raw.items():
        prediction = found[output]
        assert prediction.interval == PLACE and prediction.resolution == OUTPUTS[output].resolutions[0]
        assert prediction.tracks["name"].to_list() == [
            r["name"] for r in predictor.model.tracks("toy")[output]
        ]
        assert prediction.tracks["channel"].to_list() == list(range(prediction.values.shape[-1]))
        if output is JUNCTIONS:
            check_junctions(prediction, values["values"][0], values["positions"][0], PLACE.start)
        else:
            assert prediction.values.dtype == np.float32
            close(prediction.values, values[finest(output)][0])


def test_a_sequence_is_the_interval_that_it_was_read_from(
    predictor: Predictor, genome: Genome, found: dict[OutputType, Prediction]
) -> None:
    codes = genome.codes("chr1", PLACE.start, PLACE.end)
    texts = (decode(codes), decode(codes).lower(), codes, codes.astype(np.int64))
    for answer in predictor.predict_sequences(texts, organism="toy", outputs=["atac"]):
        close(answer["atac"].values, found["atac"].values)
        assert answer["atac"].interval == Interval("sequence", 0, WINDOW)


def test_an_interval_is_read_on_the_plus_strand_under_any_name(
    predictor: Predictor, genome: Genome, found: dict[OutputType, Prediction]
) -> None:
    other = Interval("1", PLACE.start, PLACE.end, "-")
    answer = predictor.predict_interval(other, genome.folder, outputs="dnase")["dnase"]
    close(answer.values, found["dnase"].values)
    assert answer.interval == PLACE


def test_beyond_the_chromosome_is_n(predictor: Predictor, genome: Genome) -> None:
    start = -1000
    text = "N" * -start + decode(genome.codes("chr1", 0, WINDOW + start))
    wanted = predictor.predict_sequence(text, organism="toy", outputs=["atac"])
    got = predictor.predict_interval(Interval("chr1", start, start + WINDOW), genome, outputs=["atac"])
    assert np.array_equal(got["atac"].values, wanted["atac"].values)


def test_the_mean_over_strands_is_the_mean_by_definition(
    predictor: Predictor, folder: Path, genome: Genome
) -> None:
    model, codes = load_predictor(folder), genome.codes("chr1", PLACE.start, PLACE.end)[None]
    rows = model.tracks("toy")
    partners = {o: torch.tensor([[r["strand_partner"] for r in rows[o]]]) for o in TRACK_OUTPUTS}

    def turned(**options: torch.Tensor) -> dict:
        raw = model.predict(reverse_complement(codes), "toy", **options)
        return reverse_complement_predictions(raw, torch.zeros(1, dtype=torch.int64), partners, WINDOW)

    ahead, behind = model.predict(codes, "toy"), turned()
    got = predictor.predict_interval(PLACE, genome, reverse_complement=True)
    for output in set(OutputType) - {JUNCTIONS}:
        key = finest(output)
        close(got[output].values, (ahead[output][key] + behind[output][key])[0] / 2)
    sizes = model.model.sizes
    positions = choose_sites(torch.from_numpy(got[SITES].values)[None], sizes.max_sites, sizes.site_threshold)
    other = torch.where(positions >= 0, WINDOW - 1 - positions, positions)[:, [2, 3, 0, 1]]
    ahead = model.predict(codes, "toy", outputs=[JUNCTIONS], splice_positions=positions)[JUNCTIONS]
    behind = turned(outputs=[JUNCTIONS], splice_positions=other)[JUNCTIONS]
    assert torch.equal(behind["positions"], positions)
    check_junctions(got[JUNCTIONS], ((ahead["values"] + behind["values"]) / 2)[0], positions[0], PLACE.start)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(
    "choice",
    [
        {"ontology_terms": [CURIES["liver"].lower()]},
        {"biosamples": "Brain"},
        {"strand": "-"},
        {"strand": "+.", "biosamples": ["liver", "brain"]},
        {"outputs": ["rna_seq", "splice_junctions"], "ontology_terms": CURIES["liver"], "strand": "+"},
    ],
)
def test_chosen_tracks_are_those_columns_of_all(
    predictor: Predictor, genome: Genome, found: dict[OutputType, Prediction], choice: dict, both: bool
) -> None:
    whole = predictor.predict_interval(PLACE, genome, reverse_complement=True) if both else found
    names = {n.lower() for n in np.atleast_1d(choice.get("biosamples", []))}
    terms = {n.lower() for n in np.atleast_1d(choice.get("ontology_terms", []))}
    part = predictor.predict_interval(PLACE, genome, reverse_complement=both, **choice)
    assert len(part) >= 2
    for output, everything in whole.items():
        rows = everything.tracks.to_dicts()
        wanted = [
            i for i, row in enumerate(rows)
            if output in choice.get("outputs", list(OutputType))
            and row["strand"] in choice.get("strand", "+-.")
            and (output is SITES or not names or row["biosample_name"] in names)
            and (output is SITES or not terms or row["ontology_curie"].lower() in terms)
        ]  # fmt: skip
        assert (output in part) == bool(wanted)
        if not wanted:
            continue
        assert part[output].tracks.equals(everything.tracks[wanted])
        expected = everything.values[..., wanted]
        if output is JUNCTIONS:
            kept = ~np.isnan(expected).all(1)
            assert part[output].junctions.equals(everything.junctions.filter(kept)) and kept.any()
            expected = expected[kept]
        close(part[output].values, expected)
    listed = predictor.tracks("toy", **choice)
    assert listed["name"].to_list() == [n for p in part.values() for n in p.tracks["name"]]


@pytest.mark.parametrize(
    ("outputs", "embedded", "heads"),
    [
        (["contact_maps"], ["output_pair"], ["contact_maps"]),
        (["chip_tf"], ["output_embedder"], ["chip_tf"]),
        (["cage"], ["output_embedder", "output_embedder_1", "sequence_decoder"], ["cage"]),
    ],
)
def test_what_nobody_asked_for_is_not_computed(
    predictor: Predictor, genome: Genome, outputs: list[str], embedded: list[str], heads: list[str]
) -> None:
    model: AlphaGenome = predictor.model.model
    run: list[str] = []
    parts = {n: model.get_submodule(n) for n in ("sequence_decoder", "output_embedder", "output_embedder_1",
                                                 "output_pair")}  # fmt: skip
    hooks = [m.register_forward_hook(lambda *_, name=n: run.append(name)) for n, m in parts.items()]
    maps = {id(m): n for n, m in model.named_modules() if isinstance(m, MultiOrganismLinear)}
    used, widths = [], []
    weights = MultiOrganismLinear.weights

    def seen(self: MultiOrganismLinear, channels: torch.Tensor | None = None) -> tuple:
        used.append(maps[id(self)].split(".")[1])
        widths.append(weights(self, channels)[1].shape[-1])
        return weights(self, channels)

    try:
        MultiOrganismLinear.weights = seen
        predictor.predict_interval(PLACE, genome, outputs=outputs, biosamples=["brain"])
    finally:
        MultiOrganismLinear.weights = weights
        for hook in hooks:
            hook.remove()
    assert sorted(run) == sorted(embedded)
    assert set(used) == {OUTPUTS[OutputType(h)].published_head for h in heads}
    assert set(widths) == {1}  # one track of the biosample


VARIANTS = ("snv", "insertion", "deletion")


def make_variant(genome: Genome, kind: str) -> Variant:
    position = 8000
    ref = decode(genome.codes("chr1", position, position + (6 if kind == "deletion" else 1)))
    alt = {"snv": "ACGT"[("ACGT".index(ref[0]) + 1) % 4], "insertion": ref + "GATTACA", "deletion": ref[0]}
    return Variant("chr1", position, ref, alt[kind])


@pytest.mark.parametrize("kind", VARIANTS)
@pytest.mark.parametrize("both", [False, True])
def test_a_variant_is_its_two_sequences(predictor: Predictor, genome: Genome, kind: str, both: bool) -> None:
    variant = make_variant(genome, kind)
    outputs = [o for o in OutputType if o is not JUNCTIONS]
    got = predictor.predict_variant(variant, genome, outputs=outputs, reverse_complement=both)
    window, options = got.interval, {"outputs": outputs, "reverse_complement": both}
    assert window == Interval("chr1", 8000 + len(variant.ref) // 2 - WINDOW // 2, window.end)
    assert window.length == WINDOW
    ref = predictor.predict_interval(window, genome, **options)
    codes = allele_codes(genome, variant, window.start, WINDOW)[1]
    alt = predictor.predict_sequence(codes, organism="toy", **options)
    for output in outputs:
        close(got.reference[output].values, ref[output].values)
        wanted = alt[output].values
        if OUTPUTS[output].resolutions[0] == 1:
            place = (variant.position - window.start, len(variant.ref), len(variant.alt))
            wanted = align_alternate(torch.from_numpy(wanted), *place)
        close(got.alternate[output].values, wanted)
        assert not np.allclose(got.alternate[output].values, got.reference[output].values)


@pytest.mark.parametrize("kind", VARIANTS)
def test_junctions_of_a_variant_are_the_same_introns_on_both_alleles(
    predictor: Predictor, genome: Genome, kind: str
) -> None:
    variant = make_variant(genome, kind)
    got = predictor.predict_variant(variant, genome, outputs=[JUNCTIONS, SITES])
    start = got.interval.start
    ref, alt = got.reference[JUNCTIONS], got.alternate[JUNCTIONS]
    assert ref.junctions.equals(alt.junctions) and ref.junctions.height > 0
    offset, change = variant.position - start, len(variant.alt) - len(variant.ref)
    codes = allele_codes(genome, variant, start, WINDOW)
    checked = 0
    for row in range(0, ref.junctions.height, max(1, ref.junctions.height // 12)):
        junction = ref.junctions.row(row, named=True)
        sites = [junction["donor"] - start, junction["acceptor"] - start]
        if any(offset <= site < offset + len(variant.ref) for site in sites):
            continue
        moved = [site + change if site > offset else site for site in sites]
        if max(moved) >= WINDOW:
            continue
        for allele, places, sequence in ((ref, sites, codes[0]), (alt, moved, codes[1])):
            positions = torch.full((1, 4, 1), -1)
            first = 0 if junction["strand"] == "+" else 2
            positions[0, first : first + 2, 0] = torch.tensor(places)
            wanted = predictor.model.predict(
                sequence[None], "toy", outputs=[JUNCTIONS], splice_positions=positions
            )
            columns = slice(0, 2) if first == 0 else slice(2, 4)
            close(allele.values[row, columns], wanted[JUNCTIONS]["values"][0, 0, 0, columns])
        checked += 1
    assert checked >= 3


def test_sites_of_either_allele_make_junctions(predictor: Predictor, genome: Genome) -> None:
    """Sites of the reference alone are among those of the pair, unless there are too many of a class."""
    variant = make_variant(genome, "snv")
    got = predictor.predict_variant(variant, genome, outputs=[JUNCTIONS, SITES])
    likely = np.maximum(got.reference[SITES].values, got.alternate[SITES].values)
    table, start = got.reference[JUNCTIONS].junctions, got.interval.start
    for strand, name, column in (("+", "donor", 0), ("-", "acceptor", 3)):
        places = np.unique(table.filter(strand=strand)[name].to_numpy()) - start
        least = np.sort(likely[:, column])[-predictor.model.max_sites]
        assert len(places) and (likely[places, column] >= max(least, 0.2)).all()


def test_many_keep_their_order_in_batches(
    folder: Path, predictor: Predictor, genome: Genome, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = (4096, 4096, 4096, 2048, 4096)
    places = [Interval("chr1", 1000 * i, 1000 * i + n) for i, n in enumerate(lengths)]
    together = Predictor.from_pretrained(folder / "model.json", device="cpu", batch_size=2)
    sizes = []
    forward = AlphaGenome.forward
    monkeypatch.setattr(
        AlphaGenome, "forward", lambda self, x, *a, **k: sizes.append(len(x)) or forward(self, x, *a, **k)
    )
    answers = list(together.predict_intervals(iter(places), genome, outputs=["atac"]))
    assert sizes == [2, 1, 1, 1]
    for place, answer in zip(places, answers, strict=True):
        assert answer["atac"].interval == place
        close(
            answer["atac"].values, predictor.predict_interval(place, genome, outputs=["atac"])["atac"].values
        )
    sizes.clear()
    variants = some_variants(genome)[:3]
    four = Predictor(predictor.model, batch_size=4)
    found = list(four.predict_variants(variants, genome, outputs=["cage"]))
    assert sizes == [4, 2] and [f.variant for f in found] == variants


def test_answers_come_one_by_one(predictor: Predictor, genome: Genome) -> None:
    def places():
        yield PLACE
        raise AssertionError("asked before it was needed")

    answers = predictor.predict_intervals(places(), genome, outputs=["contact_maps"])
    assert next(answers)["contact_maps"].interval == PLACE


@pytest.mark.parametrize("bases", [2048, 3 * 2048, 2**14, 2**17])
def test_lengths(predictor: Predictor, bases: int) -> None:
    codes = np.random.default_rng(0).integers(0, 4, bases).astype(np.uint8)
    found = predictor.predict_sequence(codes, organism="toy", outputs=["atac", "chip_tf", "contact_maps"])
    assert [p.values.shape[0] * p.resolution for p in found.values()] == [bases] * 3


@pytest.mark.slow
@pytest.mark.parametrize("bases", [2**19, 2**20])
def test_long_lengths(predictor: Predictor, bases: int) -> None:
    test_lengths(predictor, bases)


def test_any_predictor_may_answer(genome: Genome) -> None:
    """One that knows nothing of channels or kept embeddings gives the same columns."""
    plain = Predictor(ToyPredictor())
    whole = plain.predict_interval(PLACE, genome, reverse_complement=True)
    part = plain.predict_interval(PLACE, genome, ontology_terms="CL:1", reverse_complement=True)
    for output, prediction in part.items():
        channels = prediction.tracks["channel"].to_list()
        if output is JUNCTIONS:
            assert channels == [1, 3]
            close(prediction.values, whole[output].values[:, channels])
        else:
            assert channels == ([0, 1, 2, 3, 4] if output is SITES else channels)
            close(prediction.values, whole[output].values[..., channels])


def test_padded_channels_are_no_tracks(predictor: Predictor) -> None:
    codes = np.zeros(2048, np.uint8)
    found = predictor.predict_sequence(codes, organism="other")
    assert {o: p.values.shape for o, p in found.items()} == {OutputType.RNA_SEQ: (2048, 2)}
    assert OUTPUTS[OutputType.RNA_SEQ].kind is Kind.TRACKS
