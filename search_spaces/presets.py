"""Shipped experiment configs by name, and files that are laid over one: ``preset: NAME``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from feature_store.errors import UserError, nearest
from feature_store.yaml_files import read_yaml
from search_spaces.overrides import merge

FOLDER = Path(__file__).parent / "presets"
SUFFIXES = (".yaml", ".yml")


def preset_names() -> list[str]:
    """The shipped presets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_preset(name: str) -> dict[str, Any]:
    """A preset as a plain mapping, for `ExperimentConfig.parse`, laid over the one that it names itself, if any.

    Raises:
        UserError: there is no such preset; with the nearest name and all others.
    """
    if name not in preset_names():
        raise UserError(f"there is no preset '{name}'", hint=nearest(str(name), preset_names()))
    return over_preset(read_yaml(FOLDER / f"{name}.yaml"), where=f"preset {name}")


def preset_description(name: str) -> str:
    """What a preset is: the first line of its file."""
    with (FOLDER / f"{name}.yaml").open() as file:
        return file.readline().lstrip("# ").strip()


def config_mapping(name_or_path: str) -> Any:
    """An experiment config's content, from a preset's name or a YAML file, which may itself name a preset.

    What ends in ``.yaml`` or ``.yml``, has a folder in it or is a file here is a file.

    Raises:
        UserError: there is no such preset or file, or the file is not YAML.
    """
    path = Path(name_or_path)
    if path.suffix in SUFFIXES or len(path.parts) > 1 or path.is_file():
        return over_preset(read_yaml(path, known=preset_names()), where=name_or_path)
    try:
        return load_preset(name_or_path)
    except UserError as error:
        raise UserError(error.what, hint=f"{error.hint}; a file ends in .yaml") from error


def over_preset(content: Any, where: str) -> Any:
    """A mapping with a key ``preset`` laid over that preset, key by key; anything else as it is.

    Args:
        content: a config, or the `base` of a search space.
        where: it stands, for errors.

    Raises:
        UserError: there is no such preset.
    """
    if not isinstance(content, Mapping) or "preset" not in content:
        return content
    own = {key: value for key, value in content.items() if key != "preset"}
    try:
        return merge(load_preset(content["preset"]), own)
    except UserError as error:
        raise UserError(error.what, where=f"{where}, preset", hint=error.hint) from error
