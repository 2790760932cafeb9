"""Commands of source systems read against a table of their flags: what all converters into our configs share."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

from feature_store.errors import UserError, nearest

Status = Literal["same", "switch", "dead", "replaced"]
MEANING: dict[Status, str] = {
    "same": "means here what it means there",
    "switch": "works here, but not quite as there: the note says how",
    "dead": "does nothing there, so it does nothing here",
    "replaced": "lungtune has another way for it",
}


@dataclass(frozen=True)
class Flag:
    """One flag of a source system.

    Attributes:
        name: without its dashes.
        default: the system's; None where there is none, False for a flag that takes no value.
        kind: type of its value; bool where it takes none.
        becomes: keys of `ExperimentConfig`, or options and commands of `lungtune`; empty where nothing takes its place.
        status: see `MEANING`.
        note: one sentence.
        choices: its only valid values.
    """

    name: str
    default: Any
    kind: type
    becomes: tuple[str, ...]
    status: Status
    note: str
    choices: tuple[Any, ...] = ()

    @property
    def takes_value(self) -> bool:
        return self.kind is not bool

    def read(self, text: str) -> Any:
        """A value as it was typed.

        Raises:
            UserError: it is of another type, or none of the choices.
        """
        hint = "write the value that the shell variable has" if text.startswith("$") else None
        try:
            value = self.kind(text)
        except ValueError as error:
            kind = {int: "a whole number", float: "a number"}[self.kind]
            raise UserError(f"'{text}' is not {kind}", where=f"--{self.name}", hint=hint) from error
        if self.choices and value not in self.choices:
            raise UserError(f"'{text}' is none of its values", where=f"--{self.name}", hint=hint or valid(self.choices))
        return value


class FlagTable:
    """All flags of a source system.

    Args:
        system: its name, for errors.
        flags: in the order of its own parser.
    """

    def __init__(self, system: str, flags: Sequence[Flag]) -> None:
        self.system, self.flags = system, tuple(flags)
        self.by_name = {flag.name: flag for flag in flags}

    def markdown(self) -> str:
        """The table as a page of docs has it, a line a flag."""
        lines = ["| flag | default | here | status | note |", "| --- | --- | --- | --- | --- |"]
        for flag in self.flags:
            here = ", ".join(f"`{name}`" for name in flag.becomes) or "-"
            lines.append(f"| `--{flag.name}` | {_default(flag)} | {here} | {flag.status} | {flag.note} |")
        return "\n".join(lines) + "\n"

    def read(self, command_line: str | Sequence[str]) -> Command:
        """Read a command, pasted whole or in words; only its flags are enough. It may go over several lines.

        Raises:
            UserError: an unknown flag, with the nearest known; a wrong value, with the valid ones.
        """
        words = _words(command_line)
        scripts = [place for place, word in enumerate(words) if word.endswith(".py")]
        given = self._given(words[scripts[0] + 1 :] if scripts else words)
        values = {flag.name: given.get(flag.name, flag.default) for flag in self.flags}
        return Command(words[scripts[0]] if scripts else None, given, SimpleNamespace(**values))

    def _given(self, words: Sequence[str]) -> dict[str, Any]:
        given: dict[str, Any] = {}
        rest = iter(words)
        for word in rest:
            name, has_value, text = word.removeprefix("--").partition("=")
            if not word.startswith("--"):
                raise UserError(f"'{word}' is no flag and the value of none", where="the command")
            if name not in self.by_name:
                hint = nearest(name, self.by_name)
                raise UserError(f"{self.system} has no flag '--{name}'", where="the command", hint=hint)
            flag = self.by_name[name]
            if not flag.takes_value:
                if has_value:
                    raise UserError(f"takes no value, not '{text}'", where=f"--{name}")
                given[name] = True
                continue
            value = text if has_value else next(rest, None)
            if value is None or value.startswith("--"):
                raise UserError("needs a value", where=f"--{name}", hint=valid(flag.choices))
            given[name] = flag.read(value)
        return given

    def notes(self, given: Mapping[str, Any], *, said_elsewhere: Collection[str] = ()) -> list[str]:
        """Of flags given that do nothing, that are replaced, or that change something otherwise than in the system.

        Args:
            given: flags of a command and their values.
            said_elsewhere: flags whose difference is there without their being given, and is told without them.
        """
        said = []
        for name, value in given.items():
            flag = self.by_name[name]
            differs = flag.status == "switch" and value != flag.default and name not in said_elsewhere
            if differs or flag.status in {"dead", "replaced"}:
                said.append(f"--{name}: {flag.note}")
        return said


@dataclass(frozen=True)
class Command:
    """A command as it was read.

    Attributes:
        script: the Python file that it runs; None where only flags were given.
        given: flags that are there and their values, in their order; of a flag given twice, the last.
        flags: every flag's value, a default where it is not given.
    """

    script: str | None
    given: dict[str, Any]
    flags: SimpleNamespace


@dataclass(frozen=True)
class Converted:
    """A command of a source system in our terms.

    Attributes:
        config: a plain mapping that `ExperimentConfig.parse` accepts.
        seed: of the training.
        split: to train and test on.
        fold: of the split; None where it has but one.
        evaluation: a checkpoint to score in place of training.
        notes: what a reader has to know, a sentence or two each.
    """

    config: dict[str, Any]
    seed: int
    split: str
    fold: int | None
    evaluation: str | None
    notes: list[str]


def unused(given: Collection[str], why: Mapping[str, Sequence[str]]) -> list[str]:
    """A note for each reason why flags that were given mean nothing, neither there nor here.

    Args:
        given: flags of a command.
        why: reason -> the flags that it concerns.
    """
    named = {reason: [f"--{name}" for name in names if name in given] for reason, names in why.items()}
    return [f"{', '.join(names)}: not used {reason}." for reason, names in named.items() if names]


def valid(values: Sequence[Any]) -> str | None:
    """A hint at the valid values; None where there is no list of them."""
    return f"valid: {', '.join(map(str, values))}" if values else None


def _words(command_line: str | Sequence[str]) -> list[str]:
    if not isinstance(command_line, str):
        return [word for word in command_line if word.strip() not in {"", "\\"}]
    try:
        return shlex.split(re.sub(r"\\\s*\n", " ", command_line), comments=True)
    except ValueError as error:
        raise UserError(f"cannot be read: {str(error).lower()}", where="the command") from error


def _default(flag: Flag) -> str:
    if not flag.takes_value:
        return "off"
    if flag.default is None:
        return "none"
    return f"{flag.default:g}" if isinstance(flag.default, float) else str(flag.default) or "empty"
