"""A published checkpoint becomes a model folder that predicts what the published network predicts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
import torch
from published_stand_ins import (
    BIOSAMPLES,
    LAYOUTS,
    SIZES,
    TRACKS,
    WIDTHS,
    WINDOW,
    changed,
    imported,
    published_text,
    write_orbax,
)
from scoring_stand_ins import make_annotation, make_genome, some_variants
from typer.main import get_command

from megabase.cli import app, main
from megabase.files import FileError, hash_path
from megabase.genome import prepare_genome
from megabase.model import AlphaGenome, Sizes, load_model, to_haiku
from megabase.model.scaling import unscale_predictions
from megabase.predictors.base import load_predictor, model_info
from megabase.predictors.orbax import open_arrays, published_name
from megabase.predictors.published import digest_of
from megabase.scoring.engine import Engine
from megabase.scoring.scorers import parse_scorers
from megabase.sequence import one_hot
from megabase.spec import OutputType


@pytest.fixture(scope="module")
def network() -> AlphaGenome:
    """The network whose export stands for the published checkpoint, all its tensors drawn."""
    model = AlphaGenome(SIZES, seed=5)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in (*model.parameters(), *(b for n, b in model.named_buffers() if n.endswith("var_ema"))):
            value.add_(0.1 * torch.rand(value.shape, generator=rng))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("metadata")
    for organism in TRACKS:
        (folder / f"{organism}.textproto").write_text(published_text(organism))
    return {organism: folder / f"{organism}.textproto" for organism in TRACKS}


@pytest.fixture(scope="module")
def npz(network: AlphaGenome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("npz") / "all_folds.npz"
    params, state = to_haiku(network.state_dict())
    np.savez(path, **params, **state)
    return path


@pytest.fixture(scope="module", params=list(LAYOUTS))
def orbax(
    request: pytest.FixtureRequest, network: AlphaGenome, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("orbax") / request.param
    return write_orbax(folder, to_haiku(network.state_dict()), request.param)


@pytest.fixture(scope="module")
def folder(npz: Path, metadata: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the .npz file is imported as."""
    output = tmp_path_factory.mktemp("models") / "alphagenome"
    return imported(npz, output, metadata)


@torch.no_grad()
def test_predictions_are_those_of_the_published_network(network: AlphaGenome, folder: Path) -> None:
    predictor = load_predictor(folder)
    codes = np.random.default_rng(0).integers(0, 4, (2, WINDOW), dtype=np.uint8)
    assert (predictor.name, predictor.window) == ("alphagenome", WINDOW)
    assert predictor.organisms == ["human", "mouse"]
    for number, organism in enumerate(TRACKS):
        tracks = predictor.tracks(organism)
        assert set(tracks) == {OutputType(o) for o in WIDTHS if o != "atac" or organism == "human"}
        sites = torch.arange(12).view(1, 4, 3).mul(50).expand(2, -1, -1)
        raw = network(
            one_hot(torch.from_numpy(codes)), torch.full((2,), number), outputs=list(tracks),
            splice_positions=sites,
        )  # fmt: skip
        found = predictor.predict(codes, organism, splice_positions=sites)
        assert set(found) == set(tracks)
        half = list(range(BIOSAMPLES[organism]))
        halves = half + [3 + i for i in half]
        pairs = {
            (OutputType.CONTACT_MAPS, "values"): range(len(TRACKS[organism]["contact_maps"])),
            (OutputType.SPLICE_SITES, "probabilities"): range(5),
            (OutputType.SPLICE_SITE_USAGE, "probabilities"): halves,
            (OutputType.SPLICE_JUNCTIONS, "values"): halves,
        }
        for (output, key), channels in pairs.items():
            assert torch.equal(found[output][key], raw[output][key][..., list(channels)]), output
            assert len(tracks[output]) == len(channels)
        assert found[OutputType.SPLICE_JUNCTIONS]["values"].any()


@torch.no_grad()
def test_track_means_bring_predictions_into_the_units_of_the_tracks(
    network: AlphaGenome, folder: Path
) -> None:
    predictor = load_predictor(folder)
    codes = torch.zeros(1, WINDOW, dtype=torch.uint8)
    output = OutputType.RNA_SEQ
    scaled = network(one_hot(codes), torch.tensor([0]), outputs=[output])[output]["scaled_1bp"]
    wanted = unscale_predictions(scaled[..., :3], torch.tensor([0.5, 1.5, 2.5]), 1, squash=True)
    assert torch.equal(predictor.predict(codes, "human", outputs=[output])[output]["1bp"], wanted)
    model, _ = load_model(folder)
    assert model.track_mean(output).tolist() == [[0.5, 1.5, 2.5, 1.0], [0.5, 1.5, 1.0, 1.0]]
    assert model.track_mean(OutputType.ATAC).tolist() == [[0.5, 1.0], [1.0, 1.0]]


def test_every_layout_gives_the_same_weights(
    orbax: Path, folder: Path, metadata: dict[str, Path], tmp_path: Path
) -> None:
    found = imported(orbax, tmp_path / "alphagenome", metadata)
    assert hash_path(found / "model.safetensors") == hash_path(folder / "model.safetensors")
    tracks = model_info(found)["tracks"]
    assert tracks == model_info(folder)["tracks"] and tracks["mouse"]["rna_seq"][1]["strand_partner"] == 0


def test_names_of_trees_saved_otherwise(
    network: AlphaGenome, folder: Path, metadata: dict[str, Path], tmp_path: Path
) -> None:
    deep = tmp_path / "download" / "1" / "default"
    write_orbax(deep, to_haiku(network.state_dict()), "folders", ("params", "state"))
    (deep / "_METADATA").unlink()  # the oldest folders have none
    (tmp_path / "download" / ".cache").mkdir()
    (tmp_path / "download" / ".cache" / "notes").touch()
    found = imported(tmp_path / "download", tmp_path / "alphagenome", metadata)
    assert hash_path(found / "model.safetensors") == hash_path(folder / "model.safetensors")
    assert published_name("params.alphagenome/embed.embeddings") == "alphagenome/embed/embeddings"
    assert published_name("alphagenome.embed.embeddings") == "alphagenome/embed/embeddings"
    assert published_name("0.other.step") == "0.other.step"


def test_a_checkpoint_of_links_is_read_whole(orbax: Path, tmp_path: Path) -> None:
    linked = tmp_path / "snapshot"
    for path in (p for p in orbax.rglob("*") if p.is_file()):
        target = linked / path.relative_to(orbax)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    plain, links = open_arrays(orbax), open_arrays(linked)
    assert list(plain) == list(links)
    assert all(np.array_equal(plain[name](), links[name]()) for name in plain)
    assert digest_of(orbax) == digest_of(linked)


def test_model_card(npz: Path, folder: Path, metadata: dict[str, Path]) -> None:
    info = model_info(folder)
    assert info["predictor"] == "alphagenome" and info["scheme"] == "all" and info["seed"] is None
    assert info["settings"]["published"] == {"max_shift": 1024}
    assert info["settings"]["model"]["overrides"]["channels_1bp"] == 4
    overrides = info["settings"]["model"]["overrides"]
    assert Sizes.preset("tiny", WIDTHS, **overrides) == SIZES
    told = info["source"]["checkpoint"]
    digest = subprocess.run(
        ["sha256sum", str(npz)], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    assert told == {"name": "all_folds.npz", "sha256": digest, "files": {"all_folds.npz": digest}}
    stamp = json.loads((folder / "model.json").read_text())["megabase"]
    assert stamp["inputs"]["checkpoint"] == f"sha256:{digest}" and set(stamp["inputs"]) == {
        "checkpoint", "metadata/human", "metadata/mouse"
    }  # fmt: skip
    assert str(npz.parent) not in (folder / "model.json").read_text()


def test_digest_of_a_folder_is_that_of_its_list(tmp_path: Path) -> None:
    for name in ("b/x", "a", ".zarray", ".cache/notes"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    command = "sha256sum .zarray a b/x | sha256sum"
    told = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    files, digest = digest_of(tmp_path)
    assert list(files) == [".zarray", "a", "b/x"] and digest == told.stdout.split()[0]


def test_same_checkpoint_same_bytes(
    npz: Path, folder: Path, metadata: dict[str, Path], tmp_path: Path
) -> None:
    again = imported(npz, tmp_path / "alphagenome", metadata, sha256=digest_of(npz)[1].upper())
    assert hash_path(again) == hash_path(folder)
    other = imported(npz, tmp_path / "x", metadata, scheme="fold0", name="alphagenome-fold-0")
    info = model_info(other)
    assert (info["name"], info["scheme"]) == ("alphagenome-fold-0", "fold0")


def test_wrong_tensors_are_all_named(npz: Path, metadata: dict[str, Path], tmp_path: Path) -> None:
    wrong = changed(
        npz, tmp_path / "w.npz", alphagenome__output_pair__embed__embeddings=np.zeros((2, 3), np.float32),
        alphagenome__embed__surplus=np.zeros(1, np.float32), step=np.zeros((), np.float32),
        alphagenome__head__atac__resolution_1__learnt_scale=None,
    )  # fmt: skip
    with pytest.raises(FileError, match="4 tensors do not fit") as error:
        imported(wrong, tmp_path / "m", metadata)
    for part in ("missing head.atac.resolution_1.learnt_scale", "unknown embed.surplus", "unknown step",
                 "output_pair.embed.embeddings has shape [2, 3], wanted [2, 4]", str(wrong)):  # fmt: skip
        assert part in str(error.value)
    assert not (tmp_path / "m").exists()


def test_another_preset_is_named(metadata: dict[str, Path], tmp_path: Path) -> None:
    tiny = AlphaGenome(Sizes.preset("tiny", {"atac": 2}), seed=0)
    params, state = to_haiku(tiny.state_dict())
    np.savez(tmp_path / "tiny.npz", **params, **state)
    small = Sizes.preset("small", WIDTHS)
    with pytest.raises(FileError, match=r"has 88 channels, wanted 384; it is of preset tiny") as error:
        imported(tmp_path / "tiny.npz", tmp_path / "m", metadata, sizes=small, preset="small")
    assert "alphagenome/embed/embeddings" in str(error.value)
    with pytest.raises(FileError, match=r"rna_seq 4, wanted 768; cage 0, wanted 640"):
        imported(tmp_path / "tiny.npz", tmp_path / "m", metadata, sizes=None, preset="alphagenome")


def test_a_preset_other_than_the_published_takes_its_heads_from_the_metadata(
    metadata: dict[str, Path], tmp_path: Path
) -> None:
    tiny = AlphaGenome(Sizes.preset("tiny", WIDTHS), seed=0)
    params, state = to_haiku(tiny.state_dict())
    np.savez(tmp_path / "tiny.npz", **params, **state)
    model, info = load_model(imported(tmp_path / "tiny.npz", tmp_path / "m", metadata, sizes=None))
    assert model.sizes == tiny.sizes and info["settings"]["model"] == {"preset": "tiny", "overrides": {}}


@pytest.mark.parametrize(
    ("value", "told"),
    [(np.full((2, 16), np.nan, np.float32), "not finite"), (np.zeros((2, 16), np.int32), "is of int32"),
     (np.array([None]), "cannot be read")],
)  # fmt: skip
def test_values_that_are_no_weights(
    value: np.ndarray, told: str, npz: Path, metadata: dict[str, Path], tmp_path: Path
) -> None:
    wrong = changed(npz, tmp_path / "w.npz", alphagenome__embed__embeddings=value)
    with pytest.raises(FileError, match=rf"alphagenome/embed/embeddings .*{told}"):
        imported(wrong, tmp_path / "m", metadata)


def test_half_a_file_is_refused(npz: Path, metadata: dict[str, Path], tmp_path: Path) -> None:
    half = tmp_path / "half.npz"
    half.write_bytes(npz.read_bytes()[: npz.stat().st_size // 2])
    with pytest.raises(FileError, match=r"not an \.npz file"):
        imported(half, tmp_path / "m", metadata)
    data = bytearray(npz.read_bytes())
    data[len(data) // 2] ^= 255
    half.write_bytes(bytes(data))
    with pytest.raises(FileError, match="cannot be read"):
        imported(half, tmp_path / "m", metadata)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(FileError, match="one array without a name"):
        open_arrays(tmp_path / "one.npy")
    with pytest.raises(FileError, match=r"SHA-256 [0-9a-f]{64}, wanted abc"):
        imported(npz, tmp_path / "m", metadata, sha256="ABC")


def test_part_of_a_folder_is_refused(orbax: Path, metadata: dict[str, Path], tmp_path: Path) -> None:
    part = tmp_path / "part"
    shutil.copytree(orbax, part)
    if (part / "manifest.ocdbt").is_file():
        data = max((part / "d").iterdir(), key=lambda path: path.stat().st_size)
        data.unlink()
        with pytest.raises(FileError, match="fetch it again"):
            imported(part, tmp_path / "m", metadata)
        return
    array = part / "0.alphagenome" / "embed.embeddings"
    next(p for p in array.rglob("*") if p.is_file() and p.name not in (".zarray", "zarr.json")).unlink()
    with pytest.raises(FileError, match=r"parts of 1 arrays are absent \(alphagenome/embed/embeddings\)"):
        imported(part, tmp_path / "m", metadata)
    (part / "_METADATA").write_text("{")
    with pytest.raises(FileError, match="_METADATA: not JSON"):
        imported(part, tmp_path / "m", metadata)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_left_out_zeros_are_told(layout: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree = {
        "alphagenome/embed/embeddings": np.zeros((3, 5), np.float32),
        "alphagenome/a/b": np.float32(2).reshape(()),
    }
    source = write_orbax(tmp_path / "c", (tree, {}), layout, zeros=False)
    arrays = open_arrays(source)
    assert "parts of 1 arrays are absent and read as zeros: alphagenome/embed/embeddings" in caplog.text
    assert {name: read().tolist() for name, read in arrays.items()} == {
        n: a.tolist() for n, a in tree.items()
    }


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    tree = {"alphagenome/a/b": np.array([1.5, -2.0], ml_dtypes.bfloat16)}
    array = open_arrays(write_orbax(tmp_path / "c", (tree, {}), "ocdbt"))["alphagenome/a/b"]()
    assert array.dtype == np.float32 and array.tolist() == [1.5, -2.0]


def test_folders_that_are_not_one_checkpoint(tmp_path: Path) -> None:
    tree = {"alphagenome/a/b": np.ones(2, np.float32)}
    with pytest.raises(FileError, match="not found; wanted a downloaded checkpoint"):
        open_arrays(tmp_path / "none")
    with pytest.raises(FileError, match="holds no Orbax checkpoint"):
        open_arrays(tmp_path)
    for name in ("all_folds", "fold_0"):
        write_orbax(tmp_path / name, (tree, {}), "folders")
    with pytest.raises(FileError, match=r"holds 2 checkpoints \(all_folds, fold_0\); name one"):
        open_arrays(tmp_path)
    twice = write_orbax(tmp_path / "twice", (tree, tree), "ocdbt")
    with pytest.raises(FileError, match="alphagenome/a/b twice"):
        open_arrays(twice)
    empty = write_orbax(tmp_path / "empty", ({}, {}), "folders")
    with pytest.raises(FileError, match="holds no array"):
        open_arrays(empty)


def test_without_tensorstore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "manifest.ocdbt").touch()
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(FileError, match=r"pip install 'megabase\[import\]'"):
        open_arrays(tmp_path)


def test_an_npz_file_needs_no_tensorstore(npz: Path) -> None:
    code = (
        "import sys; from megabase.predictors import published, orbax; "
        f"orbax.open_arrays({str(npz)!r}); sys.exit('tensorstore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_command(
    metadata: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    tiny = AlphaGenome(Sizes.preset("tiny", WIDTHS), seed=0)
    params, state = to_haiku(tiny.state_dict())
    np.savez(tmp_path / "tiny.npz", **params, **state)
    given = [f"--metadata={organism}={path}" for organism, path in metadata.items()]
    command = ["import-checkpoint", str(tmp_path / "tiny.npz"), "--scheme", "all", "-o", str(tmp_path / "m")]

    def call(*more: str) -> str:
        monkeypatch.setattr(sys, "argv", ["megabase", *command, *more])
        try:
            main()
        except SystemExit as end:
            return f"exit {end.code} {capsys.readouterr().err.splitlines()[-1]}"
        raise AssertionError("a command ends by exiting")

    assert "error: " in call(*given) and "wanted 768" in call(*given)
    assert "'human': wanted name=path" in call("--metadata", "human", "--preset", "tiny")
    assert "each name once" in call(*given, given[0], "--preset", "tiny")
    assert call(*given, "--preset", "tiny", "--window", "4096").startswith("exit 0")
    assert load_predictor(tmp_path / "m").window == 4096


def test_metadata_of_the_wrong_organism(npz: Path, metadata: dict[str, Path], tmp_path: Path) -> None:
    swapped = dict(reversed(metadata.items()))
    with pytest.raises(FileError, match="given as organism 'mouse' with model index 0, but mouse has 1"):
        imported(npz, tmp_path / "m", swapped)
    mouse = tmp_path / "Response_ORGANISM_MUS_MUSCULUS.textproto"
    shutil.copy(metadata["mouse"], mouse)
    with pytest.raises(FileError, match="organism 'human' with model index 0, but MUS_MUSCULUS has 1"):
        imported(npz, tmp_path / "m", {"human": mouse, "mouse": metadata["mouse"]})
    with pytest.raises(FileError, match=r"metadata of 1 organisms \(human\); the model has 2"):
        imported(npz, tmp_path / "m", {"human": metadata["human"]})


def test_every_scorer_takes_it(folder: Path, tmp_path: Path) -> None:
    make_genome(tmp_path)
    genome = prepare_genome(tmp_path / "toy.fa", tmp_path / "mouse", organism="mouse", name="mouse")
    predictor = load_predictor(folder)
    scorers = parse_scorers(["recommended"], predictor.tracks("mouse"), has_genes=True, has_polya_sites=True)
    settings = SimpleNamespace(window=WINDOW, batch_size=2)
    engine = Engine(predictor, genome, make_annotation(), scorers, settings)
    rows = engine.score([v for v in some_variants(genome) if v.position == 10_600])[0]
    counts = {"rna_seq": 2, "chip_tf": 2, "contact_maps": 1, "splice_sites": 4, "splice_site_usage": 4,
              "splice_junctions": 2}  # fmt: skip
    assert counts.keys() <= rows.keys() and not any(name.startswith("atac") for name in rows)
    for name, count in counts.items():
        assert rows[name].raw.shape[1] == count, name
    assert rows["chip_tf"].raw.isfinite().all()


def test_the_page_names_the_options_that_there_are(root: Path) -> None:
    page = (root / "docs" / "import.md").read_text(encoding="utf-8")
    command = get_command(app).commands["import-checkpoint"]
    known = {name for option in command.params for name in option.opts}
    text = page.split("## Without")[0].replace("pip install", "")
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*(?=[ =`])", text.split("find -L")[0]))
    assert {"--metadata", "--scheme", "--sha256", "-o"} <= named <= known | {"--model"}
