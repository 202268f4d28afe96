"""Groups of commands that are imported when called: a start must not cost what it does not use."""

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup


class Command(NamedTuple):
    """One command: where it lives, and its line in the overview. `function` is a function or a typer.Typer."""

    name: str
    module: str
    function: str
    help: str
    aliases: tuple[str, ...] = ()


class LazyGroup(TyperGroup):
    """The commands of a table, each with its aliases."""

    table: Sequence[Command] = ()

    def list_commands(self, ctx: Any) -> list[str]:
        return [command.name for command in self.table]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        for command in self.table:
            if cmd_name in (command.name, *command.aliases):
                return _load(command)
        return None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(", ".join((entry.name, *entry.aliases)), entry.help) for entry in self.table])


def group_of(table: Sequence[Command]) -> type[LazyGroup]:
    """The class of a group with these commands, for typer."""
    return type("Commands", (LazyGroup,), {"table": table})


def group(help_text: str, table: Sequence[Command]) -> typer.Typer:
    """A command whose own commands these are."""
    app = typer.Typer(
        cls=group_of(table), add_completion=False, rich_markup_mode=None, no_args_is_help=True, help=help_text
    )
    # Without a callback typer takes a group of no eager command for nothing.
    app.callback()(lambda: None)
    return app


def _load(command: Command) -> Any:
    target = getattr(importlib.import_module(command.module), command.function)
    if isinstance(target, typer.Typer):
        return typer.main.get_command(target)
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(command.name, help=target.__doc__)(target)
    return typer.main.get_command(app)
