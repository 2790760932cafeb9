"""The members of an ensemble: their stored predictions, brought into one order, and the checks that they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from feature_store.errors import UserError, nearest
from workers.predictions import Predictions, read_both_sides
from workers.results import HONEST, FoldResult, ResultStore


@dataclass(frozen=True)
class Member:
    """One fold run, its predictions of the test side and of the patients held out of its training."""

    result: FoldResult
    test: Predictions
    held_out: Predictions

    @property
    def name(self) -> str:
        """For messages: enough of the hash, and what it is of."""
        key = self.result.key
        return f"{self.result.hash[:12]} (config {key.config_hash[:8]}, seed {key.seed}, fold {key.fold})"


def check_protocol(protocol: str) -> None:
    """Refuse a protocol that is not honest, or none.

    Raises:
        UserError: it is neither `validation` nor `last`.
    """
    if protocol == "test_best":
        raise UserError(
            "there are no ensembles under protocol 'test_best': its epochs were chosen on the test side",
            hint=f"use {' or '.join(HONEST)}",
        )
    if protocol not in HONEST:
        raise UserError(f"there is no protocol '{protocol}'", hint=nearest(protocol, HONEST))


def load_members(results: ResultStore, hashes: Sequence[str], protocol: str) -> list[Member]:
    """Members by fold, seed and config, each fold's test side in one order.

    Raises:
        UserError: a result has no predictions of the protocol, or does not fit the others.
    """
    check_protocol(protocol)
    twice = sorted({name[:12] for name in hashes if list(hashes).count(name) > 1})
    if twice:
        raise UserError(f"given twice: {', '.join(twice)}", hint="a member counts once; its weight is the method's")
    if len(hashes) < 2:
        raise UserError("an ensemble needs two members or more", hint="give further results of the same split")
    members = [_load(results, name, protocol) for name in hashes]
    members.sort(key=lambda m: (m.result.key.fold, m.result.key.seed, m.result.key.config_hash, m.result.hash))
    _check_alike(members)
    _check_folds(members)
    return [
        member for fold in folds_of(members) for member in _aligned([m for m in members if m.result.key.fold == fold])
    ]


def folds_of(members: Sequence[Member]) -> list[int]:
    """The folds that there are members of, sorted."""
    return sorted({member.result.key.fold for member in members})


def panels(members: Sequence[Member]) -> list[list[Member]]:
    """Members of one fold grouped by the patients held out of their training, each group in one order of cycles.

    Which patients are held out depends on the seed. Only within a group were all members judged on the same cycles,
    which none of them was trained on.
    """
    groups: list[list[Member]] = []
    for member in members:
        for group in groups:
            held_out = member.held_out.in_order_of(group[0].held_out)
            if held_out is not None:
                group.append(replace(member, held_out=held_out))
                break
        else:
            groups.append([member])
    return groups


def _load(results: ResultStore, name: str, protocol: str) -> Member:
    result = results.get(name)
    if result is None:
        raise UserError(f"there is no result {name}", where=results.storage.uri(""))
    found = read_both_sides(results, name)
    for side in ("test", "validation"):
        if (side, protocol) not in found:
            raise UserError(
                f"result {name[:12]} has no predictions of its {side} side under protocol '{protocol}'",
                hint="only fold runs that kept their predictions can be members",
            )
    return Member(result, found["test", protocol], found["validation", protocol])


def _check_alike(members: Sequence[Member]) -> None:
    """All are of one dataset, task and split, on the same extent of the data."""
    first = members[0]
    for member in members[1:]:
        mine, others = _terms(member), _terms(first)
        for what, term in mine.items():
            if term != others[what]:
                raise UserError(
                    f"its {what} is {term}, that of {first.name} is {others[what]}",
                    where=f"member {member.name}",
                    hint="members of an ensemble share dataset, task, split and extent of the data",
                )


def _terms(member: Member) -> dict[str, str]:
    key, data = member.result.key, member.result.data
    return {
        "dataset": data.dataset,
        "task": data.task,
        "list of classes": ", ".join(data.classes),
        "metric": data.metric,
        "split": key.split,
        "table of the split": key.split_hash,
        "data": f"{data.recordings} of {data.recordings_listed} recordings" + ", synthetic" * data.synthetic,
    }


def _check_folds(members: Sequence[Member]) -> None:
    """Every fold has the same trainings, and at least two."""
    trainings: dict[int, set[tuple[str, int]]] = {}
    for member in members:
        key = member.result.key
        of_fold = trainings.setdefault(key.fold, set())
        if (key.config_hash, key.seed) in of_fold:
            raise UserError(
                "its config appears twice with this seed and fold, trained on other data or by another version",
                where=f"member {member.name}",
                hint="leave one of the two out",
            )
        of_fold.add((key.config_hash, key.seed))
    everywhere = set.union(*trainings.values())
    for fold, found in trainings.items():
        missing = sorted(everywhere - found)
        if missing:
            config, seed = missing[0]
            raise UserError(
                f"fold {fold} has no member of config {config[:8]}, seed {seed}, which other folds have",
                hint="an ensemble has the same configs and seeds in every fold: give the missing result, or leave "
                "these out",
            )
    if len(everywhere) < 2:
        raise UserError("each fold has one member only", hint="give further results of the same split and folds")


def _aligned(members: Sequence[Member]) -> list[Member]:
    """Members of one fold with their test sides in the order of the first."""
    first, aligned = members[0], []
    for member in members:
        test = member.test.in_order_of(first.test)
        if test is None:
            raise UserError(
                f"was not tested on the cycles of {first.name}: {_difference(member.test, first.test)}",
                where=f"member {member.name}",
                hint="were both trained on the same corpus and devices?",
            )
        aligned.append(replace(member, test=test))
    return aligned


def _difference(mine: Predictions, other: Predictions) -> str:
    """In what two test sides differ."""
    a, b = set(mine.cycle_ids.tolist()), set(other.cycle_ids.tolist())
    if a != b:
        return f"{len(a - b)} cycles only here, {len(b - a)} only there, first {min(a ^ b)}"
    if len(a) < len(mine.cycle_ids) or len(b) < len(other.cycle_ids):
        return "a cycle appears in it more than once"
    labels = dict(zip(other.cycle_ids.tolist(), other.labels.tolist(), strict=True))
    pairs = zip(mine.cycle_ids.tolist(), mine.labels.tolist(), strict=True)
    cycle, label = next((cycle, label) for cycle, label in pairs if labels[cycle] != label)
    return f"cycle {cycle} has label {label} here and {labels[cycle]} there"
