"""Scoring and merging with the real network, killed in the middle: a rerun ends with the same files."""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from scoring_stand_ins import (
    make_world,
    some_variants,
    write_rejected,
    write_variants,
)

from megabase.files import read_json
from megabase.predictors.base import load_predictor
from megabase.scoring import chunks
from megabase.scoring.chunks import score_variants
from megabase.scoring.explain import explain_variant, read_explanation
from megabase.scoring.store import merge_scores
from megabase.settings.run import ReportSettings
from megabase.settings.scoring import ScoringSettings
from megabase.settings.section import section_json
from megabase.spec import OutputType

SETTINGS = ScoringSettings(window=2048, batch_size=2, together=1, bins=10)
RUN = """
import sys
from megabase.settings.scoring import ScoringSettings
from megabase.settings.section import parse_settings
from megabase.predictors.base import load_predictor
from megabase.scoring import chunks
from megabase.scoring.chunks import score_variants
chunk, model, genome, genes, output, settings = sys.argv[1:]
score_variants(chunk, model, genome, genes, output, parse_settings(ScoringSettings, settings))
"""
SLOW_END = """
import time
from megabase import logs
from megabase.scoring import chunk_files
logs.start("score-variants")
write_part = chunk_files.write_part
chunk_files.write_part = lambda *given: (time.sleep(0.1), write_part(*given))[1]
"""
# It pauses before every part, so that a busy machine, too, can kill it in the middle.
MERGE = """
import sys, time
from megabase.scoring import store
from megabase.scoring.store import merge_scores
blocks = store.merged_blocks
store.merged_blocks = lambda *given: (time.sleep(0.2), blocks(*given))[1]
*chunks, rejected, model, output = sys.argv[1:]
merge_scores(chunks, rejected, None, model, output)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A genome, genes, an untrained network with every head, and a chunk of variants."""
    folder = tmp_path_factory.mktemp("kill")
    genome = make_world(folder)
    write_variants(some_variants(genome), folder / "variants.parquet")
    write_rejected(folder / "rejected.parquet")
    score_variants(*_arguments(folder, folder / "chunk"), SETTINGS)
    return folder


def _arguments(folder: Path, output: Path) -> tuple[Path, ...]:
    return (folder / "variants.parquet", folder / "model", folder / "genome", folder / "genes", output)


def _scoring(folder: Path, output: Path, before: str = "") -> list[str]:
    """Command that scores the chunk in a process of its own, after the code `before`."""
    arguments = [*map(str, _arguments(folder, output)), section_json(SETTINGS)]
    return [sys.executable, "-c", before + RUN, *arguments]


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _kill_when(command: list[str], ready) -> None:
    """Start a command and kill it as soon as `ready()` holds."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"


def test_scoring_killed_in_the_middle_ends_with_the_same_files(world, tmp_path):
    chunk = tmp_path / "chunk"
    command = _scoring(world, chunk)
    _kill_when(command, lambda: len(list(tmp_path.glob(".parts-*/0*.parquet"))) >= 3)
    assert not chunk.exists()
    kept = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob(".parts-*/0*.parquet")}
    assert 3 <= len(kept) < 15
    score_variants(*_arguments(world, chunk), SETTINGS)
    assert _digests(chunk) == _digests(world / "chunk")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["chunk"]


def test_scoring_killed_while_the_chunk_is_written_leaves_nothing_behind(world, tmp_path):
    chunk = tmp_path / "chunk"
    command = [
        sys.executable,
        "-c",
        SLOW_END + RUN,
        *map(str, _arguments(world, chunk)),
        section_json(SETTINGS),
    ]
    _kill_when(command, lambda: any(tmp_path.glob(".tmp-*-chunk/*.parquet")))
    assert not chunk.exists() and list(tmp_path.glob(".tmp-*"))
    score_variants(*_arguments(world, chunk), SETTINGS)
    assert _digests(chunk) == _digests(world / "chunk")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["chunk"]


def test_a_job_that_was_queued_again_waits_for_its_first_process(world, tmp_path):
    """SLURM starts it elsewhere while the first one goes on: one makes the chunk, the other takes it."""
    chunk = tmp_path / "chunk"
    command = [
        sys.executable,
        "-c",
        SLOW_END + RUN,
        *map(str, _arguments(world, chunk)),
        section_json(SETTINGS),
    ]
    first, second = (
        subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        for _ in range(2)
    )
    said = [first.communicate()[1], second.communicate()[1]]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert sum("another process has just made it" in text for text in said) == 1
    assert _digests(chunk) == _digests(world / "chunk")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["chunk"]


def test_a_full_disk_costs_nothing_that_is_done(world, tmp_path, monkeypatch):
    chunk, write, written = tmp_path / "chunk", chunks.write_table, []

    def write_three(*given):
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(write(*given))

    monkeypatch.setattr(chunks, "write_table", write_three)
    with pytest.raises(OSError, match="No space left on device"):
        score_variants(*_arguments(world, chunk), SETTINGS)
    assert not chunk.exists() and len(list(tmp_path.glob(".parts-*/0*.parquet"))) == 3
    monkeypatch.undo()
    score_variants(*_arguments(world, chunk), SETTINGS)
    assert _digests(chunk) == _digests(world / "chunk")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["chunk"]


def test_merging_killed_in_the_middle_ends_with_the_same_files(world, tmp_path):
    merge_scores([world / "chunk"], world / "rejected.parquet", None, world / "model", tmp_path / "whole")
    output = tmp_path / "scores"
    arguments = [world / "chunk", world / "rejected.parquet", world / "model", output]
    command = [sys.executable, "-c", MERGE, *map(str, arguments)]
    _kill_when(command, lambda: any(tmp_path.glob(".tmp-*-scores/dnase")))
    assert not output.exists()
    merge_scores([world / "chunk"], world / "rejected.parquet", None, world / "model", output)
    assert _digests(output) == _digests(tmp_path / "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scores", "whole"]


def test_the_real_network_gives_every_recommended_score(world, tmp_path):
    merge_scores([world / "chunk"], world / "rejected.parquet", None, world / "model", tmp_path / "scores")
    info = read_json(tmp_path / "scores/scores.json", "scores")
    names = [s["name"] for s in info["scorers"]]
    assert len(names) == 19 and names[-1] == "composite_splicing"  # 18: there are no polyadenylation sites
    assert all(s["rows"] > 0 for s in info["scorers"])
    lines = gzip.open(tmp_path / "scores/summary.vcf.gz", "rt").read().splitlines()
    assert sum(not line.startswith("#") for line in lines) == info["scored"] == 15


def test_averaging_strands_changes_scores(world, tmp_path):
    both = SETTINGS.model_copy(update={"reverse_complement": True})
    score_variants(*_arguments(world, tmp_path / "chunk"), both)
    a, b = (
        pl.read_parquet(f / "dnase.parquet")["raw"].to_numpy() for f in (world / "chunk", tmp_path / "chunk")
    )
    assert a.shape == b.shape and abs(a - b).max() > 0


def test_the_largest_effect_is_explained(world, tmp_path):
    merge_scores([world / "chunk"], world / "rejected.parquet", None, world / "model", tmp_path / "scores")
    arguments = (tmp_path / "scores", world / "model", world / "genome", world / "genes", None)
    settings = ReportSettings(ism_width=4)
    for name in ("a", "b"):
        explain_variant(*arguments, tmp_path / f"{name}.npz", SETTINGS, settings)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    arrays, info = read_explanation(tmp_path / "a.npz")
    assert arrays["ref/dnase"].shape == (2048, 3) and arrays["ism"].shape == (4, 4)
    assert info["scorer"] in ("rna_seq", "dnase", "atac") and info["quantile"] is None


def test_junctions_from_kept_embeddings_equal_a_second_pass(world):
    predictor = load_predictor(world / "model")
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (3, 2048)).astype(np.uint8))
    rows, sites = [2, 0, 2], torch.tensor([[5, 90, -1], [40, 300, 700], [1000, 1500, 1700], [900, -1, -1]])
    positions = sites.expand(3, -1, -1)
    splice = OutputType.SPLICE_SITES
    predictions, junctions = predictor.predict_with_junctions(codes, "toy", outputs=[splice])
    wanted = predictor.predict(
        codes[rows], "toy", outputs=[OutputType.SPLICE_JUNCTIONS], splice_positions=positions
    )[OutputType.SPLICE_JUNCTIONS]["values"]
    torch.testing.assert_close(junctions(rows, positions), wanted, rtol=1e-4, atol=1e-5)
    assert list(predictions) == [splice] and wanted.abs().max() > 0
