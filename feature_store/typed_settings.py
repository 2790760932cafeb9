"""Base of all settings that people write: typed, unknown keys refused, numbers that are numbers."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, model_validator

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What numpy and torch both take as a seed."""


class TypedSettings(BaseModel):
    """Settings that are fixed once made. NaN and infinity are no numbers here, and true is not 1."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, content: Any) -> Any:
        for key, value in content.items() if isinstance(content, dict) else ():
            given = value if isinstance(value, list | tuple) else [value]
            field = cls.model_fields.get(key)
            if field and any(isinstance(one, bool) for one in given) and not _takes_bool(field.annotation):
                raise ValueError(f"{key} is a number or text, not true or false")
        return content


def _takes_bool(annotation: Any) -> bool:
    """Whether a value may be true or false, or is a part of the settings that decides so itself."""
    if annotation in (bool, Any) or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return True
    if get_origin(annotation) is Literal:
        return any(isinstance(one, bool) for one in get_args(annotation))
    return any(_takes_bool(inner) for inner in get_args(annotation))
