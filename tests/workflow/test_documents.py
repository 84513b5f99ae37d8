"""Generated documents are what the settings classes make of them."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from megabase import document
from megabase.config import Config


@pytest.mark.parametrize(
    ("path", "make"), [(document.README, document.config_page), (document.SCHEMA, document.config_schema)]
)
def test_in_sync(path: Path, make, root: Path) -> None:
    assert (root / path).read_text(encoding="utf-8") == make(), "run `megabase document-config`"


def test_document_config_writes_both(tmp_path: Path) -> None:
    document.document_config(tmp_path)
    assert (tmp_path / document.README).read_text() == document.config_page()
    assert json.loads((tmp_path / document.SCHEMA).read_text())["type"] == "object"


@pytest.mark.parametrize("name", ["config", "human_tiny", "yeast", "alphagenome"])
def test_every_config_meets_the_schema(name: str, root: Path) -> None:
    schema = json.loads((root / document.SCHEMA).read_text())
    values = yaml.safe_load((root / f"config/{name}.yaml").read_text())
    jsonschema.validate(values, schema)
    with pytest.raises(jsonschema.ValidationError, match="sede"):
        jsonschema.validate(values | {"sede": 1}, schema)


def test_every_key_of_every_section_is_on_the_page() -> None:
    page = document.config_page()
    for path, section in document.sections(Config):
        part = page.split(f"## {path}\n" if path else "## The file\n")[1].split("\n## ")[0]
        for name, field in section.model_fields.items():
            assert field.description, f"{path}.{name} has no description"
            assert f"| `{name}` |" in part


def test_types_are_told_in_words() -> None:
    page = document.config_page()
    assert "| `splits` | list of `valid` or `test` |" in page
    assert "| `dropout` | number ≥ 0, ≤ 1 |" in page
    assert "| `atac_shift` | list of 2 integer | `[4, -4]` |" in page
