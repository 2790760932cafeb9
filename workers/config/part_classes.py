"""The classes that a part of a config may have: lungtune's own and other packages'.

A class of another package is found by an entry point, whose name is the part's `name`. It is loaded when a config names
it, so that a broken package costs nothing but the configs that need it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import operator
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field, TypeAdapter

from feature_store.entry_points import OUTSIDE, entry_point, load_class, offered, package_of, place_of
from feature_store.errors import UserError
from workers.config.base import Experiment, NamedPart

P = TypeVar("P", bound=NamedPart)
Made = TypeVar("Made")
REPORT = "report it to those who maintain the package"


@dataclass(frozen=True)
class Outside(Generic[P]):
    """A class of another package.

    Attributes:
        name: by which it is found.
        part: the class.
        package: name and version of the package.
        place: of its entry point, for messages.
        adapter: validates settings of this class, and names it in the place of an error as lungtune's own are named.
    """

    name: str
    part: type[P]
    package: str
    place: str
    adapter: TypeAdapter[P]


class PartClasses(Generic[P]):
    """The classes of a part. The part's annotation holds them: see `workers.config.models.ModelConfig`.

    Args:
        base: of all of them.
        group: of the entry points by which other packages bring theirs.
        namespace: of the module that defines lungtune's own.
    """

    def __init__(self, base: type[P], group: str, namespace: Mapping[str, Any]) -> None:
        self.base, self.group = base, group
        defined = [one for one in namespace.values() if inspect.isclass(one) and issubclass(one, base)]
        self.own: dict[str, type[P]] = {name: one for one in defined for name in one.names()}
        self._outside: dict[str, Outside[P] | UserError | None] = {}

    @property
    def classes(self) -> list[type[P]]:
        """Lungtune's own, and those of other packages that a config of this process has named."""
        outside = [known.part for known in self._outside.values() if isinstance(known, Outside)]
        return [*dict.fromkeys(self.own.values()), *outside]

    def names(self) -> list[str]:
        """Everything that `name` may be: lungtune's own, then what installed packages offer."""
        return [*self.own, *(name for name in offered(self.group) if name not in self.own)]

    def find(self, name: str) -> type[P] | None:
        """The class of a name; None where nobody offers it.

        Raises:
            UserError: another package offers it, and its class cannot be used.
        """
        if name in self.own:
            return self.own[name]
        outside = self._of_package(name)
        return outside.part if outside else None

    def package(self, part: P) -> str | None:
        """Name and version of the package that a part's class is from; None for lungtune's own.

        Raises:
            UserError: the package is not installed here, or cannot be used.
        """
        return None if part.name in self.own else self._needed(part.name).package

    def build(self, part: P, *arguments: Any, kind: type[Made]) -> Made:
        """What a part's settings describe, made by `build` of the module that its class names.

        Args:
            part: validated settings.
            arguments: what else the part's `build` takes.
            kind: of what it makes.

        Raises:
            UserError: the settings do not fit the arguments; or the module of another package cannot be imported, has
                no `build`, or its `build` fails or makes something else.
        """
        with self.blaming(part.name, f"{part.module} built it"):
            made = importlib.import_module(part.module).build(part, *arguments)
        if not isinstance(made, kind):
            what = f"build of {part.module} returns {type(made).__name__}, not {kind.__module__}.{kind.__name__}"
            raise UserError(what, where=self._where(part.name), hint=REPORT)
        return made

    def check(self, part: P, config: Experiment) -> None:
        """`Part.check` of a part.

        Raises:
            ValueError: what does not fit, and what to use instead.
            UserError: the check of another package fails otherwise.
        """
        with self.blaming(part.name, "it checked a config", ValueError):
            part.check(config)

    def describe(self, settings: Mapping[str, Any]) -> str:
        """`NamedPart.describe` of stored settings.

        It is their name where their class is of a package that is not installed or is broken.

        Raises:
            KeyError, TypeError, ValueError: they are not settings of lungtune's class.
        """
        name = str(settings["name"])
        if name in self.own:
            return self.own[name].describe(settings)
        try:
            found = self.find(name)
            return str(found.describe(settings)) if found else name
        except Exception:  # whatever the code of another package does: a table is not lost for it
            return name

    def validate(self, value: Any) -> P:
        """A part from a mapping of its settings, or as it is.

        Raises:
            pydantic.ValidationError: wrong settings, or a name that nobody offers.
            UserError: another package offers the name, and its class cannot be used.
        """
        if isinstance(value, NamedPart):
            if type(value) is self.find(value.name):
                return value
            raise ValueError(f"{type(value).__name__} is not the class that is found by the name '{value.name}'")
        name = value.get("name") if isinstance(value, Mapping) else None
        outside = self._of_package(name) if isinstance(name, str) and name not in self.own else None
        if outside is None:
            return self._adapter.validate_python(value)
        with self.blaming(outside.name, "its settings were validated", ValueError):
            return outside.adapter.validate_python(value)

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[P]:
        return TypeAdapter(_one_of(self.own.values()))

    def _needed(self, name: str) -> Outside[P]:
        outside = self._of_package(name)
        if outside is None:
            hint = f"install the package that brings it, by an entry point of the group {self.group}"
            raise UserError(f"no installed package offers '{name}'", hint=hint)
        return outside

    def _where(self, name: str) -> str | None:
        """The package of a class, for messages; None for lungtune's own."""
        if name in self.own:
            return None
        outside = self._needed(name)
        return f"{outside.place} ({outside.package})"

    @contextmanager
    def blaming(self, name: str, doing: str, *passing: type[Exception]) -> Iterator[None]:
        """An unforeseen error of another package's code as one that names the package.

        Args:
            name: of the part.
            doing: what the code was asked for, after ``failed while``.
            passing: errors that are foreseen.

        Raises:
            UserError: the code of another package fails.
        """
        try:
            yield
        except (Exception, SystemExit) as error:
            if name in self.own or isinstance(error, (UserError, MemoryError, *passing)):
                raise
            what = f"failed while {doing}: {type(error).__name__}: {error}"
            raise UserError(what, where=self._where(name), hint=REPORT) from error

    def _of_package(self, name: str) -> Outside[P] | None:
        """The class that an entry point names, checked. A process looks for it once.

        Raises:
            UserError: it cannot be used.
        """
        if name not in self._outside:
            try:
                self._outside[name] = self._loaded(name)
            except UserError as error:
                self._outside[name] = error
        found = self._outside[name]
        if isinstance(found, UserError):
            raise found
        return found

    def _loaded(self, name: str) -> Outside[P] | None:
        entry = entry_point(self.group, name)
        if entry is None:
            return None
        found = load_class(entry, self.base)
        if fault := self._fault(found, name):
            raise UserError(fault, where=place_of(entry), hint=OUTSIDE)
        adapter: TypeAdapter[P] = TypeAdapter(_one_of([*self.own.values(), found]))
        return Outside(name, found, package_of(entry), place_of(entry), adapter)

    def _fault(self, found: type[P], name: str) -> str | None:
        if name not in found.names():
            return f"{found.__name__} has no setting name: Literal['{name}'], the entry point's name"
        taken = [one for one in found.names() if one in self.own]
        return f"{found.__name__} takes the name '{taken[0]}', which is lungtune's own" if taken else found.fault()


def _one_of(classes: Iterable[type[NamedPart]]) -> Any:
    """The union of classes that is told apart by `name`."""
    return Annotated[functools.reduce(operator.or_, dict.fromkeys(classes)), Field(discriminator="name")]
