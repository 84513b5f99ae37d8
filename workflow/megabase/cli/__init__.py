"""The command line: one subcommand a rule. Parse, load, call; the work is in the function of the same name.

The commands of rules are in the modules here, in the order of the pipeline; those that people call, and no
rule, in `megabase.commands`. A path of a model, genome or store may be its folder or the JSON file in it that
describes it.
"""

from __future__ import annotations

import sys

import typer

from megabase import commands, logs
from megabase.cli import data, models, results, scores

app = typer.Typer(
    name="megabase",
    help="Portals -> tracks -> shards -> teachers -> student -> scores -> benchmarks -> report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _part in (data.COMMANDS, models.COMMANDS, scores.COMMANDS, results.COMMANDS, commands.FOR_PEOPLE):
    for _command in _part:
        app.command()(_command)
_of_shards = typer.Typer(help="Look into a training store.", no_args_is_help=True, add_completion=False)
for _name, _command in commands.OF_SHARDS.items():
    _of_shards.command(_name)(_command)
_of_shards.callback()(lambda: None)  # a group, even of one command
app.add_typer(_of_shards, name="shards")


def main() -> None:
    """Run the command line; a bad input ends in one line `error: ...` and exit code 1."""
    try:
        app()
    except (ValueError, OSError) as error:  # FileError is a ValueError; settings and files are the user's
        who = f" of rank {logs.rank()}" if logs.rank() else ""
        sys.stderr.write(f"error{who}: {' '.join(str(error).split())}\n")
        sys.exit(1)
