"""A chunk of which a killed run removed a part is made again, and no other one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import scoring_run
import yaml

pytestmark = pytest.mark.timeout(600)
CHUNKS = 3


def test_a_chunk_that_was_half_removed_is_made_again(tmp_path: Path, root: Path) -> None:
    world = scoring_run.make_world(tmp_path / "world")
    folder = scoring_run.make_run(tmp_path / "run", world, root)
    path = folder / "config/run.yaml"
    values = yaml.safe_load(path.read_text())
    values["scoring"] |= {"scorers": ["dnase", "rna_seq"]}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    command = ["snakemake", scoring_run.SCORES, "--configfile", "config/run.yaml", "--set-scatter",
               f"variants={CHUNKS}", "--cores", "2"]  # fmt: skip
    scoring_run.run(folder, command)
    first = scoring_run.digests(folder / scoring_run.SCORES)

    # Snakemake takes the output of a job that failed away, and may be killed at that. What it takes is one
    # file: were it the folder, half of it would pass for the whole.
    chunk = folder / "results/chunks/mine/untrained" / f"2-of-{CHUNKS}"
    (chunk / "chunk.json").unlink()
    (chunk / "dnase.parquet").unlink()
    shutil.rmtree(folder / scoring_run.SCORES)
    text = scoring_run.run(folder, command)
    assert len(re.findall(r"^localrule score_variants:", text, re.M)) == 1
    assert (chunk / "dnase.parquet").is_file()
    assert scoring_run.digests(folder / scoring_run.SCORES) == first


def test_jobs_of_which_there_are_many_have_files_as_output(root: Path) -> None:
    """A folder could be removed in part."""
    for rules in ("score", "tracks", "shards"):
        text = (root / f"workflow/rules/{rules}.smk").read_text()
        folders = re.findall(r"^rule (\w+):(?:(?!^rule ).)*?directory\(", text, re.M | re.S)
        assert folders == (["merge_scores"] if rules == "score" else [])
