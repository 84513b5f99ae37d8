"""The prediction API: the numbers of the model, of the tracks asked for, where they belong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scoring_stand_ins import make_genome
from training_stand_ins import model_settings

from megabase.channels import Channels, rows_by_output
from megabase.genome import Genome, Interval
from megabase.model import AlphaGenome, Sizes, save_model
from megabase.predict import Prediction, Predictor
from megabase.predictors.base import load_predictor
from megabase.spec import OUTPUTS, TRACK_COLUMNS, TRACK_OUTPUTS, Kind, OutputType

WINDOW = 4096
PLACE = Interval("chr1", 6144, 6144 + WINDOW)
JUNCTIONS = OutputType.SPLICE_JUNCTIONS


def _row(output: str, name: str, strand: str, partner: int, biosample: str) -> dict[str, Any]:
    row = dict.fromkeys(TRACK_COLUMNS) | {"name": name, "output_type": output, "strand": strand}
    curie = {"liver": "UBERON:0002107", "brain": "UBERON:0000955"}[biosample]
    return row | {"strand_partner": partner, "biosample_name": biosample, "ontology_curie": curie,
                  "nonzero_mean": 1.0 + len(name) % 5}  # fmt: skip


def toy_rows() -> list[dict[str, Any]]:
    """Tracks of the organism `toy`: every output type, stranded and unstranded, two biosamples."""
    rows = []
    for output in TRACK_OUTPUTS:
        rows += [_row(output, "liver +", "+", 1, "liver"), _row(output, "liver -", "-", 0, "liver"),
                 _row(output, "brain", ".", 2, "brain")]  # fmt: skip
    rows += [_row("contact_maps", f"{b} hic", ".", i, b) for i, b in enumerate(("brain", "liver"))]
    for output in ("splice_site_usage", "splice_junctions"):
        rows += [_row(output, f"{b} {s}", s, (i + 2) % 4, b)
                 for i, (s, b) in enumerate([("+", "brain"), ("+", "liver"), ("-", "brain"), ("-", "liver")])]  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a tiny network that knows two organisms; the second has fewer tracks."""
    tracks = {"toy": rows_by_output(toy_rows()), "other": rows_by_output(toy_rows()[1:3], sites=False)}
    channels = Channels(("toy", "other"), tracks)
    sizes = model_settings().overrides | {"site_threshold": 0.2}
    model = AlphaGenome(Sizes.preset("tiny", channels.widths, **sizes), seed=3)
    with torch.no_grad():
        for output in TRACK_OUTPUTS:
            model.set_track_means(output, torch.from_numpy(channels.means(output)))
        model.head_of(OutputType.SPLICE_SITES).multi_organism_linear.w.mul_(4)  # some likely sites
    path = tmp_path_factory.mktemp("models") / "student-seed0"
    info = {"name": path.name, "predictor": "alphagenome", "window": WINDOW, "organisms": ["toy", "other"],
            "tracks": tracks}  # fmt: skip
    save_model(path, model, info)
    return path


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor.from_pretrained(folder)


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    return make_genome(tmp_path_factory.mktemp("genome"))


def finest(output: OutputType) -> str:
    kind = OUTPUTS[output].kind
    if kind is Kind.TRACKS:
        return f"{OUTPUTS[output].resolutions[0]}bp"
    return "values" if kind in (Kind.CONTACTS, Kind.JUNCTIONS) else "probabilities"


def close(got: np.ndarray, wanted: np.ndarray | torch.Tensor) -> None:
    np.testing.assert_allclose(got, np.asarray(wanted), rtol=2e-5, atol=1e-6)


def check_junctions(found: Prediction, matrix: torch.Tensor, positions: torch.Tensor, start: int) -> None:
    """Every row of junctions is the matrix's value at its donor and acceptor, and no pair is lost."""
    half, count = matrix.shape[-1] // 2, 0
    for i, row in enumerate(found.junctions.iter_rows(named=True)):
        first = 0 if row["strand"] == "+" else 2
        d = positions[first].tolist().index(row["donor"] - start)
        a = positions[first + 1].tolist().index(row["acceptor"] - start)
        assert (row["donor"] < row["acceptor"]) == (row["strand"] == "+")
        on, off = (slice(0, half), slice(half, None)) if first == 0 else (slice(half, None), slice(0, half))
        close(found.values[i, on], matrix[d, a, on])
        assert np.isnan(found.values[i, off]).all()
    for donor, acceptor, sign in ((positions[0], positions[1], 1), (positions[2], positions[3], -1)):
        real = [(d, a) for d in donor.tolist() for a in acceptor.tolist() if d >= 0 and a >= 0]
        count += sum((a - d) * sign > 0 for d, a in real)
    assert found.junctions.height == count > 0


def test_an_interval_has_the_numbers_of_the_model(predictor: Predictor, folder: Path, genome: Genome) -> None:
    raw = load_predictor(folder).predict(genome.codes("chr1", PLACE.start, PLACE.end)[None], "toy")
    found = predictor.predict_interval(PLACE, genome)
    assert list(found) == list(raw) and set(found) == set(OutputType)
    for output, values in raw.items():
        prediction = found[output]
        assert prediction.interval == PLACE and prediction.resolution == OUTPUTS[output].resolutions[0]
        names = [row["name"] for row in predictor.model.tracks("toy")[output]]
        assert prediction.tracks["name"].to_list() == names
        if output is JUNCTIONS:
            check_junctions(prediction, values["values"][0], values["positions"][0], PLACE.start)
        else:
            close(prediction.values, values[finest(output)][0])
