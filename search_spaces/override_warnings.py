"""Settings of a search space's base that do not reach a family, since it sets or searches the same key itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from search_spaces.overrides import merge
from search_spaces.schema import SearchSpace

BASE = "base."


def unreached(space: SearchSpace, overrides: Iterable[str]) -> list[str]:
    """A sentence for each ``--set base.KEY=VALUE`` that is without effect in a family, with what to write there.

    Args:
        space: with the settings laid over it.
        overrides: the settings, as they were given.
    """
    found = []
    for setting in overrides:
        path, _, value = setting.partition("=")
        if not path.startswith(BASE):
            continue
        key = path.removeprefix(BASE)
        for family, chosen in space.families.items():
            if _at(merge(space.base, chosen.base), key) != _at(space.base, key):
                own = f"--set families.{family}.{path}={value}"
                found.append(f"{path} does not reach family '{family}', which has its own: {own}")
        if key in space.space:
            one = f"--set 'space.{key}={{choice: [{value}]}}'"
            found.append(f"{path} is without effect, every trial searches {key}: {one}")
    return found


def _at(content: Any, path: str) -> Any:
    for key in path.split("."):
        content = content.get(key) if isinstance(content, Mapping) else None
    return content
