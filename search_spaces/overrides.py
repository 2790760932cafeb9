"""Mappings laid over each other: a preset by what a file changes, a file by ``--set key.path=value``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from feature_store.errors import UserError, shortened
from feature_store.features import resolve_feature
from feature_store.yaml_files import parse_yaml


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, key by key; a part of another `name` or `kind` replaces the base's whole."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping) and _same_part(below, value):
            merged[key] = merge(below, value)
        else:
            merged[key] = dict(value) if isinstance(value, Mapping) else value
    return merged


def _same_part(below: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return all(key not in value or value[key] == below.get(key, value[key]) for key in ("name", "kind"))


def nest(path: str, value: Any) -> dict[str, Any]:
    """``a.b``, 1 -> ``{a: {b: 1}}``."""
    for step in reversed(path.split(".")):
        value = {step: value}
    return value


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{a: {b: 1}}`` -> ``{a.b: 1}``: nested mappings as dotted keys, each after `prefix`."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        path = f"{prefix}{key}"
        flat |= flatten(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return flat


def override(content: Any, overrides: Iterable[str]) -> Any:
    """Lay ``key.path=value`` settings over a mapping; values are read as YAML.

    Raises:
        UserError: a setting without ``=``, or with an empty key.
    """
    for setting in overrides:
        key, separator, text = setting.partition("=")
        if not separator or not key or not isinstance(content, dict):
            raise UserError(f"'{setting}' is not key=value", where="--set", hint="for example --set search.trials=4")
        content = _set(content, key, parse_yaml(text, where=f"--set {shortened(key)}"))
    return content


def _set(content: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A value at a dotted path; a key that itself has dots (``space`` has such) is found by its beginning."""
    key = max((k for k in content if path == k or path.startswith(f"{k}.")), key=len, default=path.split(".")[0])
    rest = path[len(key) + 1 :]
    below = content.get(key)
    if rest and key == "feature" and isinstance(below, str):  # a named feature, of which one parameter is set
        below = {"kind": resolve_feature(below).kind, **resolve_feature(below).model_dump(exclude_defaults=True)}
    inner = _set(below if isinstance(below, Mapping) else {}, rest, value) if rest else value
    return {**content, key: inner}
