"""What the parts of a config have in common, and a validation error in a reader's words."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from feature_store.errors import nearest


class Part(BaseModel):
    """Base of every part of a config: unknown keys are refused, values are fixed once made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """A pydantic error in a reader's words, one clause a problem."""
    clauses = []
    for problem in error.errors():
        path, parent = _follow(model, [str(step) for step in problem["loc"]])
        key = ".".join(path)
        if problem["type"] == "extra_forbidden":
            clauses.append(f"unknown key '{key}' ({nearest(path[-1], _field_names(parent))})")
        elif problem["type"] in {"union_tag_invalid", "union_tag_not_found"}:
            context = problem["ctx"]
            clauses.append(
                f"'{key}' needs a {context['discriminator']} out of {context.get('expected_tags', 'the known ones')}"
            )
        elif problem["type"] == "value_error":
            clauses.append(f"{key}: {problem['ctx']['error']}" if path else str(problem["ctx"]["error"]))
        else:
            clauses.append(f"'{key}' = {problem['input']!r}: {problem['msg'].lower()}")
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
