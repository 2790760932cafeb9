"""YAML files that people write: read safely, within limits, with the line of what is wrong."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from feature_store.errors import QUOTED, UserError, nearest, shortened

LARGEST = 256 * 1024  # bytes of a file: the longest shipped one has 5 kB
DEEPEST = 32  # levels of nesting
MOST = 20_000  # nodes, each alias counted as all that it stands for
LONGEST_NUMBER = 100  # characters
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):
    """YAML in which 1e-4 is a number, as its writer meant; YAML 1.1 reads a word unless there is a dot and a sign.

    A date, a key that appears twice and a key that is no text are refused: nothing here takes them.
    """


def _mapping(loader: Any, node: yaml.MappingNode) -> Any:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            raise _refused(f"the key {_shown(key)} is no text: write it in quotes", key)
        if key.value in seen:
            raise _refused(f"the key {_shown(key)} appears twice", key)
        seen.add(key.value)
    result: dict[Hashable, Any] = {}
    yield result
    result.update(loader.construct_mapping(node))


def _number(loader: Any, node: yaml.ScalarNode) -> Any:
    if len(node.value) > LONGEST_NUMBER:
        raise _refused(f"a number of {len(node.value)} characters", node)
    try:
        return _Base.yaml_constructors[node.tag](loader, node)
    except (ValueError, OverflowError, KeyError) as error:
        kind = node.tag.rpartition(":")[2]
        raise _refused(f"{_shown(node)} is no {kind}: write text in quotes", node) from error


def _date(loader: Any, node: yaml.ScalarNode) -> Any:
    raise _refused(f"{_shown(node)} reads as a date: write text in quotes", node)


def _unused(loader: Any, node: yaml.Node) -> Any:
    raise _refused(f"the tag !!{node.tag.rpartition(':')[2]} means nothing here", node)


def _shown(node: yaml.Node) -> str:
    return f"'{shortened(str(node.value))}'" if isinstance(node, yaml.ScalarNode) else "of a list or mapping"


def _refused(what: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
for _kind in ("int", "float", "bool"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _number)
for _kind in ("binary", "set", "omap", "pairs"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _unused)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _date)


def read_yaml(path: str | Path, known: Iterable[str] = ()) -> Any:
    """A YAML file's content, of mappings with text as keys, lists, text, numbers, true, false and null.

    Args:
        path: of the file.
        known: names of files that might have been meant, for the error.

    Raises:
        UserError: it is not there, too large, too deep, or not YAML; with the line.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError as error:
        known = list(known)
        raise UserError("no such file", where=str(path), hint=nearest(path.name, known) if known else None) from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read: {getattr(error, 'strerror', None) or error}", where=str(path)) from error
    if len(content) > LARGEST:
        raise UserError(f"is larger than {LARGEST // 1024} kB", where=str(path), hint="is it the file that you meant?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"is not UTF-8 (byte {error.start})", where=str(path), hint="save it as UTF-8") from error
    return parse_yaml(text, where=str(path))


def parse_yaml(text: str, where: str) -> Any:
    """The content of a YAML text, as `read_yaml` returns it.

    Args:
        text: of one document.
        where: the text is from, for errors.

    Raises:
        UserError: it is too deep, expands to too much, or is not YAML; with the line.
    """
    try:
        _check_size(text)
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        reason = shortened(" ".join(str(error.problem or error.context).split()), 2 * QUOTED)
        raise UserError(f"is not YAML that can be read{line}: {reason}", where=where) from error
    except yaml.YAMLError as error:
        reason = shortened(" ".join(str(error).split()), 2 * QUOTED)
        raise UserError(f"is not YAML: {reason}", where=where) from error


def _check_size(text: str) -> None:
    """Walk the events, which takes no memory, before anything is built.

    Raises:
        yaml.MarkedYAMLError: nested too deeply, too many nodes, or an alias inside of what it stands for.
    """
    sizes: dict[str, int] = {}
    stack: list[tuple[str | None, int]] = [(None, 0)]  # the anchor and the nodes of each level
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise _over(f"the alias *{shortened(str(event.anchor))} stands for nothing that ends before it", event)
            grown = sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            grown = 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            stack.append((event.anchor, 1))
            grown = 0
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, grown = stack.pop()
            if anchor:
                sizes[anchor] = grown
        else:
            continue
        anchor, size = stack[-1]
        stack[-1] = (anchor, size + grown)
        if len(stack) > DEEPEST:
            raise _over(f"nested more than {DEEPEST} levels deep", event)
        if size + grown > MOST:
            raise _over(f"more than {MOST:,} values, aliases counted as what they stand for", event)


def _over(what: str, event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=event.start_mark)
