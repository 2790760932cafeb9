"""What the parts of a config have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, get_args

from feature_store.features import Spec
from feature_store.typed_settings import TypedSettings


class Experiment(Protocol):
    """The whole config, for a part that checks whether the others suit it.

    A part is `Any` here, since its class is defined in a module that imports this one.
    """

    @property
    def task(self) -> str: ...
    @property
    def feature(self) -> Spec: ...
    @property
    def model(self) -> Any: ...
    @property
    def objective(self) -> Any: ...
    @property
    def augment(self) -> Any: ...
    @property
    def optim(self) -> Any: ...
    @property
    def training(self) -> Any: ...


class Part(TypedSettings):
    """Base of every part of a config."""

    def check(self, config: Experiment) -> None:
        """Refuse what this part cannot work with in the others. All parts are valid by themselves.

        Raises:
            ValueError: what does not fit, and what to use instead.
        """


class NamedPart(Part):
    """A part that has one class out of several, found by `name`.

    Each class has a setting `name`, a `Literal` of one or more names.

    Attributes:
        label: what tables call it.
        module: dotted name of the module whose function `build` makes what the settings describe. The class itself is
            imported by processes that must stay small, so its own module imports no torch.
    """

    label: ClassVar[str]
    module: ClassVar[str]

    if TYPE_CHECKING:
        name: str  # a field of the subclasses: here it would come first in every stored config

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """What `name` may be; nothing for a class that is only a base of others."""
        return get_args(cls.model_fields["name"].annotation) if "name" in cls.model_fields else ()

    @classmethod
    def describe(cls, settings: Mapping[str, Any]) -> str:
        """Label and size for tables.

        Args:
            settings: of a stored config, complete, but not checked.

        Raises:
            KeyError, TypeError, ValueError: they are not settings of this class.
        """
        return cls.label

    @classmethod
    def fault(cls) -> str | None:
        """What the class itself lacks; None for a class that can be used."""
        for attribute in ("label", "module"):
            if not isinstance(text := getattr(cls, attribute, None), str) or not text:
                return f"{cls.__name__} has no class attribute {attribute}, a text"
        return None
