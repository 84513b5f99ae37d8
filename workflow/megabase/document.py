"""Documents of the configuration, made from the settings classes: config/README.md and the JSON schema."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from megabase.config import Config
from megabase.files import atomic_path
from megabase.settings.section import Section
from megabase.spec import OutputType

README = Path("config/README.md")
SCHEMA = Path("workflow/schemas/config.schema.json")
_INTRODUCTION = """\
# Configuration

By `megabase document-config` from `workflow/megabase/settings/` and `config.py`; edit those, not this page.

A run is described by one file. `config.yaml` (the demo) is read unless another is given, which then stands
alone, nothing of the demo's is merged into it:

    snakemake --cores 2 --configfile config/human_tiny.yaml

| file | what it runs |
|---|---|
| `config.yaml` | the demo: two synthetic species with known truth, no network |
| `human_tiny.yaml` | real human and mouse windows, real variants, a saturation-mutagenesis benchmark |
| `yeast.yaml` | a whole real genome: nucleosomes, accessibility, contact maps, splice sites |
| `alphagenome.yaml` | the published settings of AlphaGenome, for a cluster with GPUs |

The file names what is computed; cores, memory and partitions belong to the profile (`profiles/`). An
unknown key stops the run before any work, with the nearest valid name. A change reruns what depends on it
and nothing else. A dry run (`snakemake -n`) tells what it will cost ([docs/scaling.md](../docs/scaling.md)).
"""


def document_config(root: str | Path) -> None:
    """Write `config/README.md` and `workflow/schemas/config.schema.json` into the checkout `root`."""
    for path, text in ((README, config_page()), (SCHEMA, config_schema())):
        with atomic_path(Path(root) / path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def config_schema() -> str:
    """JSON schema (draft 2020-12) of a config file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Config.model_json_schema()
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def config_page() -> str:
    """Markdown of every key: a table for each section, in the order of the file."""
    tables = (_table(path, section) for path, section in sections(Config))
    return "\n".join([_INTRODUCTION, *tables])


def sections(section: type[Section], path: str = "") -> Iterator[tuple[str, type[Section]]]:
    """`(path, class)` of a settings class and of all below it, parents first."""
    yield path, section
    for name, field in section.model_fields.items():
        inner = _sections_in(field.annotation)
        if inner:
            free = ".{name}" if get_origin(field.annotation) is dict else ""
            yield from sections(inner[0], f"{path}.{name}{free}".removeprefix("."))


def _sections_in(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _sections_in(argument)]


def _table(path: str, section: type[Section]) -> str:
    title = f"## {path}" if path else "## The file"
    doc = " ".join((section.__doc__ or "").split())
    rows = [_row(name, field) for name, field in section.model_fields.items()]
    return "\n".join(
        [title, "", doc, "", "| key | type | default | meaning |", "|---|---|---|---|", *rows, ""]
    )


def _row(name: str, field: FieldInfo) -> str:
    cells = (f"`{name}`", type_text(field), _default(field), field.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _default(field: FieldInfo) -> str:
    if _sections_in(field.annotation):
        return "required" if field.is_required() else "see below"
    if field.default is PydanticUndefined:
        return "required"
    return "none" if field.default is None else f"`{json.dumps(field.default)}`"


def type_text(field: FieldInfo) -> str:
    """A field's type in words, with its limits."""
    limits = [f"{sign} {value}" for sign, key in (("≥", "ge"), (">", "gt"), ("≤", "le"), ("<", "lt"))
              for item in field.metadata if (value := getattr(item, key, None)) is not None]  # fmt: skip
    return " ".join([_words(field.annotation), ", ".join(limits)]).strip()


def _words(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(part) for part in arguments if part is not type(None))
    if origin is list:
        return f"list of {_words(arguments[0])}"
    if origin is tuple:
        return f"list of {len(arguments)} {_words(arguments[0])}"
    if origin is dict:
        return f"names with {_words(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "section"
    if annotation is Any:
        return "a value"
    if annotation is OutputType:
        return "output type"
    return {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}[annotation.__name__]
