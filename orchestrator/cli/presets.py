"""`lungtune presets`: list and show the shipped configs, and convert a command of a source system."""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.console import err, out

if TYPE_CHECKING:
    from search_spaces.command_line import Converted

OutFile = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="write the config here")]
app = typer.Typer(help="Published recipes as configs, for `lungtune train NAME`.", no_args_is_help=True)
PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True}  # another program's flags


@app.command("list")
def list_presets() -> None:
    """The shipped presets.

    Example: lungtune presets list
    """
    from rich.table import Table

    from search_spaces.presets import load_preset, preset_description, preset_names

    table = Table(title="presets")
    for name in ("name", "model", "objective", "description"):
        table.add_column(name)
    for name in preset_names():
        preset = load_preset(name)
        table.add_row(name, preset["model"]["name"], preset["objective"]["name"], preset_description(name))
    out.print(table)


@app.command("show")
def show_preset(
    name: Annotated[str, typer.Argument(metavar="NAME|CONFIG.yaml", help="a preset or an experiment config")],
) -> None:
    """A config with every default written out, as YAML.

    Example: lungtune presets show icbhi_patchmix_cl
    """
    from search_spaces.presets import config_mapping
    from workers.config import ExperimentConfig

    typer.echo(_yaml(ExperimentConfig.parse(config_mapping(name), where=name).model_dump(mode="json")), nl=False)


@app.command("from-patchmix", context_settings=PASSED_ON)
def from_patchmix(
    command: Annotated[
        list[str], typer.Argument(metavar="FLAGS...", help="flags of Patch-Mix' main.py, or a whole command in quotes")
    ],
    out_file: OutFile = None,
) -> None:
    """The config that a command of Patch-Mix' release stands for, and the `lungtune` command that runs it.

    Example: lungtune presets from-patchmix --out mine.yaml -- --method patchmix_cl --model ast --epochs 50 --cosine

    Example: lungtune presets from-patchmix "python main.py --seed 1 --method ce --weighted_loss"
    """
    from search_spaces.patchmix_command import convert

    _hand_over(convert(command[0] if len(command) == 1 else command), out_file)


@app.command("from-cycleguardian", context_settings=PASSED_ON)
def from_cycleguardian(
    command: Annotated[
        list[str],
        typer.Argument(metavar="FLAGS...", help="flags of CycleGuardian's scripts, or a whole command in quotes"),
    ],
    out_file: OutFile = None,
) -> None:
    """The config that a command of CycleGuardian's release stands for, and the `lungtune` command that runs it.

    Example: lungtune presets from-cycleguardian --out mine.yaml -- --lr_h 0.001 --batch_size 128 --epochs 600
    """
    from search_spaces.cycleguardian_command import convert

    _hand_over(convert(command[0] if len(command) == 1 else command), out_file)


def _hand_over(converted: Converted, out_file: Path | None) -> None:
    """Print the config or write it, with what differs as comments, and say how to run it."""
    text = _commented(converted.notes) + _yaml(converted.config)
    if out_file is None:
        typer.echo(text, nl=False)
    else:
        _write(out_file, text)
    name = str(out_file or _preset_like(converted.config) or "config.yaml")
    err.print(f"run it: {_command(converted, name)}", soft_wrap=True, highlight=False, markup=False)


def _command(converted: Converted, name: str) -> str:
    fold = [] if converted.fold is None else ["--fold", str(converted.fold)]
    place = ["--split", converted.split, *fold]
    if converted.evaluation is not None:
        return shlex.join(["lungtune", "evaluate", "--config", name, "--weights", converted.evaluation, *place])
    return shlex.join(["lungtune", "train", name, *place, "--seed", str(converted.seed)])


def _preset_like(config: dict[str, Any]) -> str | None:
    """The preset that a config equals."""
    from search_spaces.presets import load_preset, preset_names
    from workers.config import ExperimentConfig

    wanted = ExperimentConfig.parse(config)
    return next((name for name in preset_names() if ExperimentConfig.parse(load_preset(name)) == wanted), None)


def _commented(notes: list[str]) -> str:
    lines = [line for note in notes for line in textwrap.wrap(note, 116, initial_indent="- ", subsequent_indent="  ")]
    return "".join(f"# {line}\n" for line in lines)


def _yaml(content: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(content, sort_keys=False, width=120)


def _write(path: Path, text: str) -> None:
    from feature_store.errors import UserError

    try:
        path.write_text(text)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(path)) from error
