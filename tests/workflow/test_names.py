"""Rule, command and function share one name; every rule is a contract and not a program."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest
from typer.main import get_command

from megabase import cli

ROOT = Path(__file__).resolve().parents[2]
RULE_FILES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))
RULES = {
    match["name"]: match["body"]
    for path in RULE_FILES
    for match in re.finditer(r"^rule (?P<name>\w+):\n(?P<body>(?:(?:    .*)?\n)+)", path.read_text(), re.M)
}
COMMANDS = {
    name if command is group else f"{name}-{group.name}": command
    for group in get_command(cli.app).commands.values()  # type: ignore[attr-defined]
    for name, command in getattr(group, "commands", {group.name: group}).items()
}  # `megabase shards inspect` is `inspect-shards` here, as its function is
BESIDE_RULES = {
    "list-sources",
    "compare-sources",
    "fetch-sources",
    "convert-table",
    "fetch-region",
    "import-aliases",
    "plan-sources",
    "estimate-cost",
    "estimate-scoring",
    "explain",
    "mutagenize",
    "inspect-shards",
    "import-tfrecords",
    "export-zarr",
    "query",
    "import-checkpoint",
    "predict",
    "document-config",
}  # run by a person, never inside the workflow


def _body(command: str) -> ast.FunctionDef:
    """The function of a command, in the modules of the command line."""
    package = ROOT / "workflow" / "megabase"
    files = [*(package / "cli").glob("*.py"), package / "commands.py"]
    nodes = [node for file in files for node in ast.parse(file.read_text()).body]
    name = command.replace("-", "_")
    return next(node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == name)


def _called(command: str) -> set[str]:
    """Dotted names that the function of a command calls."""
    body = _body(command)
    calls = (node.func for node in ast.walk(body) if isinstance(node, ast.Call))
    return {call.attr for call in calls if isinstance(call, ast.Attribute)}


def _stage_modules(command: str) -> list[str]:
    """Modules that the function of a command imports."""
    imports = [node for node in ast.walk(_body(command)) if isinstance(node, ast.ImportFrom)]
    return [f"{node.module}.{alias.name}" for node in imports for alias in node.names]


def test_there_are_rules_and_each_has_a_command() -> None:
    assert len(RULES) >= 20
    assert {name.replace("_", "-") for name in RULES} == set(COMMANDS) - BESIDE_RULES


@pytest.mark.parametrize("rule", RULES)
def test_rule_calls_its_own_command(rule: str) -> None:
    command = rule.replace("_", "-")
    assert re.findall(r"\bmegabase ([a-z-]+)", RULES[rule]) == [command]
    assert '&> {log:q}"' in RULES[rule]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_calls_the_function_of_its_name(command: str) -> None:
    function = command.replace("-", "_")
    assert function in _called(command)
    modules = [import_module(module) for module in _stage_modules(command)]
    assert any(callable(getattr(module, function, None)) for module in modules)
    assert COMMANDS[command].help


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_a_contract(rule: str) -> None:
    body = RULES[rule]
    keys = re.findall(r"^    (\w+):", body, re.M)
    assert {"output", "log", "conda", "resources", "shell"} <= set(keys)
    assert not {"run", "script", "notebook"} & set(keys)
    assert "lambda" not in body
    for key in ("mem", "runtime"):
        assert re.search(rf"^        {key}=", body, re.M)
    unnamed = re.findall(r"^    (?:input|output|params):\n        (?!\w+=)(.*)", body, re.M)
    assert unnamed == []


def test_architecture_lists_every_rule_where_it_is_and_every_module() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("\n## Commands\n")[1]
    file = ""
    listed = {}
    for cells in re.findall(r"^\| (\w*) ?\| `(\w+)` \| `([\w/]+)\.py` \|", page, re.M):
        file = cells[0] or file
        listed[cells[1]] = (file, cells[2].replace("/", "."))
    homes = {
        name: path.stem for path in RULE_FILES for name in re.findall(r"^rule (\w+):", path.read_text(), re.M)
    }
    assert {rule: home for rule, (home, _) in listed.items()} == homes
    for rule, (_, module) in listed.items():
        assert callable(getattr(import_module(f"megabase.{module}"), rule, None)), (rule, module)
    package = ROOT / "workflow" / "megabase"
    named = set(re.findall(r"`([\w/]+)(?:\.py)?`", page))
    for path in package.rglob("*.py"):
        name = path.relative_to(package).with_suffix("")
        if path.stem == "__init__" or str(name) in named:
            continue
        row = re.findall(rf"^\| `{name.parent if name.parent.name else 'megabase'}/` \|(.*)", page, re.M)
        assert row and f"`{path.stem}`" in row[0], f"docs/architecture.md does not list {name}"


def test_rule_files_are_short_and_common_holds_no_rule() -> None:
    assert not re.search(r"^(rule|checkpoint) ", (ROOT / "workflow/rules/common.smk").read_text(), re.M)
    for path in RULE_FILES:
        assert len(path.read_text().splitlines()) <= 200, path.name


def test_training_and_scoring_ask_for_a_gpu_only_where_a_profile_gives_one() -> None:
    asking = {rule for rule, body in RULES.items() if re.search(r"^        gpu=0,", body, re.M)}
    assert asking == {
        "train_teacher",
        "distill_student",
        "evaluate_tracks",
        "calibrate_spread",
        "score_variants",
        "compare_placements",
        "explain_variant",
        "score_intervals",
        "score_enhancers",
    }


@pytest.mark.parametrize("rule", RULES)
def test_rule_gives_its_command_the_options_that_it_has_and_needs(rule: str) -> None:
    shell = "".join(re.findall(r'^        "(.*)"$', RULES[rule].split("    shell:")[1], re.M))
    given = set(re.findall(r"(?<= )--?[a-z][a-z0-9-]*", shell))
    options = [p for p in COMMANDS[rule.replace("_", "-")].params if p.param_type_name == "option"]
    known = {name for option in options for name in option.opts}
    needed = [set(option.opts) for option in options if option.required]
    assert given <= known
    assert all(given & names for names in needed), (given, needed)
    arguments = [p for p in COMMANDS[rule.replace("_", "-")].params if p.param_type_name == "argument"]
    leading = re.match(r"megabase [a-z-]+((?: \{[^}]+\})*)", shell)
    assert leading is not None
    given = leading[1].replace(" {params.splits}", "")  # holds options
    assert given.count("{") == len(arguments)
