"""What every section of the config is: frozen, with unknown keys refused, read and written as text.

A problem is told with its key, what was found, and the nearest valid name.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from megabase.files import FileError, hash_json

Fraction = Annotated[float, Field(ge=0, le=1)]


Positive = Annotated[int, Field(ge=1)]


Window = Annotated[int, Field(ge=2048, multiple_of=2048)]  # a whole number of pair-representation bins


class Section(BaseModel):
    """Base of every settings class: frozen, unknown keys refused.

    SILENT: keys that are written only where they differ from their default. What was made before such a
    key came keeps its hash, its bytes, and its place in the graph of jobs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    SILENT: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = write(self)
        fields = type(self).model_fields
        quiet = {key for key in self.SILENT if getattr(self, key) == fields[key].default}
        return {key: value for key, value in values.items() if key not in quiet}

    def hash(self) -> str:
        """Hash of this section's values, as stamped into the files that it makes."""
        return hash_json(self.model_dump(mode="json"))


S = TypeVar("S", bound=Section)


def parse_settings(cls: type[S], text: str | None) -> S:
    """One section from JSON text, or from a YAML/JSON file; its defaults if `text` is none.

    FileError tells every key that is unknown, missing or out of range.
    """
    text = (text or "{}").strip()
    inline = text.startswith("{")
    try:
        values = yaml.safe_load(text if inline else Path(text).read_text(encoding="utf-8"))
        return cls.model_validate(values)
    except yaml.YAMLError as error:
        raise FileError(
            f"{'settings' if inline else text}: not JSON or YAML ({error})".replace("\n", " ")
        ) from None
    except ValidationError as error:
        problems = "; ".join(problem_text(problem, cls) for problem in error.errors())
        raise FileError(f"{cls.__name__} in {'settings' if inline else text}: {problems}") from None


def section_json(section: Section) -> str:
    """Canonical JSON of a section: what a rule hands to its command as `--settings`."""
    return json.dumps(section.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def changed(section: S, values: Mapping[str, Any], key: str) -> S:
    """The section with some values changed; ValueError names every problem under `key`."""
    try:
        return type(section).model_validate(section.model_dump() | dict(values))
    except ValidationError as error:
        problems = "; ".join(problem_text(problem, type(section)) for problem in error.errors())
        raise ValueError(f"{key}: {problems}") from None


def problem_text(problem: Any, root: type[Section]) -> str:
    """One validation problem as a sentence, with the nearest valid key for an unknown one."""
    where = ".".join(str(part) for part in problem["loc"]) or "config"
    if problem["type"] != "extra_forbidden":
        return f"{where}: {problem['msg']} (found {str(problem.get('input'))[:80]!r})"
    names = _keys_at(problem["loc"][:-1], root)
    near = difflib.get_close_matches(str(problem["loc"][-1]), names, n=1, cutoff=0.0)
    hint = f"; nearest valid key: {near[0]}" if near else ""
    return f"unknown key {where}{hint}"


def _keys_at(location: tuple[Any, ...], section: type[Section]) -> list[str]:
    """Names of the fields of the section to which a location, from `section` down, leads."""
    free = False  # the next part is a name that the user chose, not a field
    for part in location:
        if free:
            free = False
            continue
        annotation = section.model_fields[str(part)].annotation
        inner = _section_in(annotation)
        if inner is None:
            return []
        section, free = inner, get_origin(annotation) is dict
    return list(section.model_fields)


def _section_in(annotation: Any) -> type[Section] | None:
    """The settings class inside an annotation such as `dict[str, FoldScheme]` or `str | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _section_in(arg))), None)
