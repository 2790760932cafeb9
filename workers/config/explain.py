"""A validation error of a config in a reader's words."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from feature_store.errors import closest, nearest, shortened
from workers.config.part_classes import PartClasses

MOST = 10  # problems that a message names
LONGEST = 400  # characters of a reason


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """A pydantic error in a reader's words, one clause per problem, the first `MOST` of them."""
    clauses = []
    problems = error.errors()
    for problem in problems[:MOST]:
        path, parent, place = _follow(model, [str(step) for step in problem["loc"]])
        key = ".".join(path)
        if problem["type"] == "extra_forbidden":
            clauses.append(f"unknown key '{shortened(key)}' ({nearest(path[-1], _field_names(parent))})")
        elif problem["type"] in {"union_tag_invalid", "union_tag_not_found"}:
            clauses.append(f"'{key}' needs a {_out_of(place, problem['ctx'])}")
        elif problem["type"] == "value_error":
            reason = shortened(str(problem["ctx"]["error"]), LONGEST)
            clauses.append(f"{key}: {reason}" if path else reason)
        else:
            clauses.append(f"'{key}' = {shortened(repr(problem['input']))}: {problem['msg'].lower()}")
    if len(problems) > MOST:
        clauses.append(f"and {len(problems) - MOST} more")
    return "; ".join(clauses)


def _out_of(place: Any, context: dict[str, Any]) -> str:
    """The known names of a part, and of them the one that is most like the name given."""
    if isinstance(place, PartClasses):  # pydantic knows lungtune's own alone
        names = place.names()
    else:
        names = re.findall("'([^']*)'", context.get("expected_tags", ""))
    close = closest(context.get("tag", ""), names)
    listing = ", ".join(f"'{name}'" for name in names) or "the known ones"
    return f"{context['discriminator']} out of {listing}" + (f"; did you mean '{close}'?" if close else "")


def _follow(model: Any, loc: list[str]) -> tuple[list[str], Any, Any]:
    """An error's place as the user wrote it, without the tags of unions; what holds its last key; what may be there."""
    path: list[str] = []
    parent = here = model
    for step in loc:
        members = [member for member in _members(here) if _tagged(member, step)]
        if members:
            here = members[0]
            continue
        path.append(step)
        parent = here
        field = getattr(here, "model_fields", {}).get(step)
        here = _annotation(field) if field is not None else None
    return path, parent, here


def _annotation(field: FieldInfo) -> Any:
    """What a setting may be: its type, or the classes of a part."""
    return next((one for one in field.metadata if isinstance(one, PartClasses)), field.annotation)


def _members(annotation: Any) -> Any:
    """The classes that a union or a part may be of."""
    return annotation.classes if isinstance(annotation, PartClasses) else getattr(annotation, "__args__", ())


def _field_names(model: Any) -> list[str]:
    members = [model] if hasattr(model, "model_fields") else _members(model)
    return sorted({name for member in members for name in getattr(member, "model_fields", {})})


def _tagged(member: Any, tag: str) -> bool:
    fields = getattr(member, "model_fields", {})
    return any(tag in getattr(fields[key].annotation, "__args__", ()) for key in ("name", "kind") if key in fields)
