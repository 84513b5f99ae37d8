"""`/search/` over items, as ENCODE and 4DN do it (snovault): filters, `field`, `limit`, 404 for no hits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

RESERVED = {
    "type", "limit", "mode", "format", "frame", "field", "sort", "from", "searchTerm", "datastore", "config",
}  # fmt: skip
DEFAULT_LIMIT = 25


def object_path(item: Mapping[str, Any]) -> str:
    """`/files/ENCFF.../`: the `@id` of an item, or one made of its type and accession."""
    if "@id" in item:
        return str(item["@id"])
    kind = str(item.get("@type", ["Item"])[0])
    folder = {"File": "files", "Experiment": "experiments", "Analysis": "analyses", "FileProcessed":
              "files-processed"}.get(kind, kind.lower())  # fmt: skip
    return f"/{folder}/{item.get('accession', item.get('uuid', ''))}/"


def values_at(item: Any, path: str) -> list[Any]:
    """Values at a dotted path of an item; lists on the way are gone through."""
    found = [item]
    for part in path.split("."):
        inner = [value.get(part) for value in found if isinstance(value, dict)]
        found = [x for value in inner for x in (value if isinstance(value, list) else [value])]
    return [value for value in found if value is not None]


def matches(item: Mapping[str, Any], filters: Iterable[tuple[str, str]]) -> bool:
    """Whether an item meets all filters: repeated keys are OR, `key!` is must-not, `*` is any value."""
    wanted: dict[str, list[str]] = {}
    for key, value in filters:
        wanted.setdefault(key, []).append(value)
    for key, allowed in wanted.items():
        have = {str(value) for value in values_at(item, key.removesuffix("!"))}
        hit = bool(have) if "*" in allowed else bool(have & set(allowed))
        if hit == key.endswith("!"):
            return False
    return True


def restricted(item: Mapping[str, Any], fields: list[str]) -> dict[str, Any]:
    """An item with the asked fields (dotted paths keep their nesting), `@id` and `@type`."""
    if not fields:
        return dict(item)
    kept: dict[str, Any] = {key: item[key] for key in ("@id", "@type") if key in item}
    for field in fields:
        if (value := _pruned(item, field.split("."))) is not None:
            head = field.split(".")[0]
            kept[head] = _merged(kept.get(head), value[head])
    return kept


def _pruned(item: Any, parts: list[str]) -> Any:
    """The item with one path only, or None where it lacks it."""
    if not parts:
        return item
    if isinstance(item, list):
        found = [pruned for x in item if (pruned := _pruned(x, parts)) is not None]
        return found or None
    if not isinstance(item, Mapping) or parts[0] not in item:
        return None
    inner = _pruned(item[parts[0]], parts[1:])
    return None if inner is None else {parts[0]: inner}


def _merged(first: Any, second: Any) -> Any:
    if isinstance(first, dict) and isinstance(second, dict):
        return first | {key: _merged(first.get(key), value) for key, value in second.items()}
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return [_merged(a, b) for a, b in zip(first, second, strict=True)]
    return second


def search(
    items: Iterable[Mapping[str, Any]], query: Iterable[tuple[str, str]]
) -> tuple[int, dict[str, Any]]:
    """(status, body) of a search: all hits are counted in `total`, `limit` of them are in `@graph`."""
    pairs = list(query)
    given = {key: [value for other, value in pairs if other == key] for key, _ in pairs}
    for single in ("limit", "frame", "format", "sort", "from"):
        if len(given.get(single, [])) > 1:
            return 400, {"@type": ["HTTPBadRequest", "Error"], "status": "error", "code": 400,
                         "description": f"The parameter {single} may be given once."}  # fmt: skip
    types = given.get("type", [])
    filters = [pair for pair in pairs if pair[0].removesuffix("!") not in RESERVED]
    hits = [
        item for item in items
        if (not types or set(types) & set(item.get("@type", []))) and matches(item, filters)
    ]  # fmt: skip
    first, limit = int(given.get("from", ["0"])[0]), given.get("limit", [str(DEFAULT_LIMIT)])[0]
    shown = hits[first:] if limit == "all" else hits[first : first + int(limit)]
    body = {
        "@type": ["Search"], "title": "Search", "total": len(hits),
        "notification": "Success" if hits else "No results found",
        "@graph": [restricted(item, given.get("field", [])) for item in shown],
    }  # fmt: skip
    return (200 if hits else 404), body
