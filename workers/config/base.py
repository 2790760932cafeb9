"""What the parts of a config have in common, and a validation error in a reader's words."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from feature_store.errors import nearest, shortened
from feature_store.typed_settings import TypedSettings

MOST = 10  # problems that a message names
LONGEST = 400  # characters of a reason


class Part(TypedSettings):
    """Base of every part of a config."""


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """A pydantic error in a reader's words, one clause per problem, the first `MOST` of them."""
    clauses = []
    problems = error.errors()
    for problem in problems[:MOST]:
        path, parent = _follow(model, [str(step) for step in problem["loc"]])
        key = ".".join(path)
        if problem["type"] == "extra_forbidden":
            clauses.append(f"unknown key '{shortened(key)}' ({nearest(path[-1], _field_names(parent))})")
        elif problem["type"] in {"union_tag_invalid", "union_tag_not_found"}:
            context = problem["ctx"]
            clauses.append(
                f"'{key}' needs a {context['discriminator']} out of {context.get('expected_tags', 'the known ones')}"
            )
        elif problem["type"] == "value_error":
            reason = shortened(str(problem["ctx"]["error"]), LONGEST)
            clauses.append(f"{key}: {reason}" if path else reason)
        else:
            clauses.append(f"'{key}' = {shortened(repr(problem['input']))}: {problem['msg'].lower()}")
    if len(problems) > MOST:
        clauses.append(f"and {len(problems) - MOST} more")
    return "; ".join(clauses)


def _follow(model: Any, loc: list[str]) -> tuple[list[str], Any]:
    """An error's place as the user wrote it, without the tags of unions, and what holds its last key."""
    path: list[str] = []
    parent = here = model
    for step in loc:
        members = [member for member in getattr(here, "__args__", ()) if _tagged(member, step)]
        if members:
            here = members[0]
            continue
        path.append(step)
        parent = here
        field = getattr(here, "model_fields", {}).get(step)
        here = field.annotation if field is not None else None
    return path, parent


def _field_names(model: Any) -> list[str]:
    members = [model] if hasattr(model, "model_fields") else getattr(model, "__args__", ())
    return sorted({name for member in members for name in getattr(member, "model_fields", {})})


def _tagged(member: Any, tag: str) -> bool:
    fields = getattr(member, "model_fields", {})
    return any(tag in getattr(fields[key].annotation, "__args__", ()) for key in ("name", "kind") if key in fields)
