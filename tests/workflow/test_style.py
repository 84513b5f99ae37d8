"""Snakemake's lint and snakefmt find nothing to say."""

from __future__ import annotations


def test_lint(shell) -> None:
    result = shell("snakemake --lint")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "your workflow is in a good condition" in result.stdout + result.stderr


def test_snakefmt(shell) -> None:
    result = shell("snakefmt --check Snakefile workflow")
    assert result.returncode == 0, result.stdout + result.stderr
