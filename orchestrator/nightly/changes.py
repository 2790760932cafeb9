"""What is different from the night before, as plain data and as Markdown."""

from __future__ import annotations

from pydantic import BaseModel, Field

from feature_store.counted import counted
from feature_store.metrics import LABELS, USUAL, Metric
from orchestrator.markdown import text
from orchestrator.nightly.snapshot import Snapshot, Standing

SHOWN = 50  # lines of one part of the page; the JSON has all


class RankChange(BaseModel):
    """An entry that moved."""

    entry: str
    label: str
    where: str
    before: int | None
    after: int | None
    note: str | None = Field(default=None, description="why it is not ranked any more")


class ScoreChange(BaseModel):
    """An entry whose number differs though config, data and split are the same: more seeds, or something is wrong."""

    entry: str
    label: str
    where: str
    metric: Metric = USUAL
    before: float | None
    after: float | None


class Succession(BaseModel):
    """A registered model with another champion."""

    model: str
    before: str | None
    after: str | None


class Changes(BaseModel):
    """One night against the one before."""

    since: str | None = Field(description="when the night before was; null: there is none")
    when: str
    new: dict[str, Standing]
    gone: dict[str, Standing]
    ranks: list[RankChange]
    scores: list[ScoreChange]
    champions: list[Succession]
    refused: dict[str, str] = Field(description="registered versions that fail their check, the night before or not")
    recovered: list[str] = Field(description="registered versions that failed their check the night before")
    contradicted: dict[str, str] = Field(
        description="entries with a stored number that their predictions do not give, the night before or not"
    )
    failed: dict[str, str] = Field(description="trials that failed since")
    problems: dict[str, str] = Field(description="results left out of the board since")

    @property
    def nothing(self) -> bool:
        """Whether the night was quiet: nothing changed, and every model passed."""
        kept = {"since", "when"}
        return not any(value for name, value in self.model_dump().items() if name not in kept)

    @property
    def alarming(self) -> bool:
        """Whether a model or an entry is not what was stored of it: somebody has to look."""
        return bool(self.refused or self.contradicted)

    @property
    def lost_rank(self) -> list[RankChange]:
        """Entries that were ranked and are not any more; `note` says why."""
        return [change for change in self.ranks if change.after is None]

    @property
    def summary(self) -> str:
        """One sentence."""
        parts = [
            (len(self.refused), "registered model fails its check", "registered models fail their check"),
            (len(self.contradicted), "entry contradicts its predictions", "entries contradict their predictions"),
            (len(self.champions), "new champion", "new champions"),
            (len(self.new), "new entry", "new entries"),
            (len(self.lost_rank), "entry lost its rank", "entries lost their rank"),
            (len(self.ranks) - len(self.lost_rank), "rank change", "rank changes"),
            (len(self.failed), "failed trial", "failed trials"),
            (len(self.problems), "result left out", "results left out"),
        ]
        said = [counted(count, one, many) for count, one, many in parts if count]
        return ", ".join(said) or ("nothing changed" if self.nothing else "small changes")


def compare(before: Snapshot | None, after: Snapshot) -> Changes:
    """What a night brought. Against no night before, everything is new and no rank has changed."""
    old = before or Snapshot(when="")
    both = [(key, old.entries[key], now) for key, now in after.entries.items() if key in old.entries]
    ranks = [
        RankChange(entry=key, label=now.label, where=_where(now), before=was.rank, after=now.rank, note=now.note)
        for key, was, now in both
        if was.rank != now.rank
    ]
    scores = [
        ScoreChange(entry=key, label=now.label, where=_where(now), metric=now.metric, before=was.score, after=now.score)
        for key, was, now in both
        if was.score != now.score
    ]
    models = sorted({*old.champions, *after.champions})
    champions = [Succession(model=m, before=old.champions.get(m), after=after.champions.get(m)) for m in models]
    return Changes(
        since=before.when if before else None,
        when=after.when,
        new={key: now for key, now in after.entries.items() if key not in old.entries},
        gone={key: was for key, was in old.entries.items() if key not in after.entries},
        ranks=ranks,
        scores=scores,
        champions=[change for change in champions if change.before != change.after],
        refused={name: found.detail for name, found in after.refused.items()},
        recovered=sorted(name for name in old.refused if name in after.checked and after.checked[name].passed),
        contradicted={key: _line(now) for key, now in after.entries.items() if now.contradicted},
        failed={key: error for key, error in after.failed.items() if key not in old.failed},
        problems={key: what for key, what in after.problems.items() if key not in old.problems},
    )


def page(changes: Changes, warnings: list[str]) -> str:
    """The night as Markdown."""
    lines = [f"# {changes.when}", ""]
    lines += [f"Compared with {changes.since}." if changes.since else "The first night: there is none to compare with."]
    lines += ["", f"**{changes.summary[0].upper()}{changes.summary[1:]}.**"]
    lines += _part("What this night had to do without", warnings)
    refused = [f"**{text(name)}**: {text(why)}" for name, why in changes.refused.items()]
    lines += _part("Models that fail their check", refused, marked=True)
    lines += _part("Models that pass their check again", changes.recovered)
    lines += _part("Entries that contradict their predictions", list(changes.contradicted.values()))
    lines += _part(
        "Champions", [f"{c.model}: version {c.before or 'none'} -> {c.after or 'none'}" for c in changes.champions]
    )
    lines += _part("New entries", [_line(standing) for standing in changes.new.values()])
    lines += _part(
        "Ranks", [f"{_rank(c.before)} -> {_rank(c.after, c.note)}: {c.label}, {c.where}" for c in changes.ranks]
    )
    lines += _part(
        "Scores of entries that were there before",
        [f"{LABELS[c.metric]} {_score(c.before)} -> {_score(c.after)}: {c.label}, {c.where}" for c in changes.scores],
    )
    lines += _part("Entries that are gone", [_line(standing) for standing in changes.gone.values()])
    lines += _part("Trials that failed", [f"{trial}: {error}" for trial, error in changes.failed.items()])
    lines += _part("Results left out of the board", [f"{name[:12]}: {why}" for name, why in changes.problems.items()])
    return "\n".join(lines) + "\n"


def _part(title: str, rows: list[str], *, marked: bool = False) -> list[str]:
    """A part of the page; `marked` rows are Markdown already."""
    if not rows:
        return []
    more = [f"- and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    return ["", f"## {title}", "", *(f"- {row if marked else text(row)}" for row in rows[:SHOWN]), *more]


def _line(standing: Standing) -> str:
    reached = f"{LABELS[standing.metric]} {_score(standing.score)}"
    return f"{_rank(standing.rank, standing.note)}: {standing.label}, {reached}, {_where(standing)}"


def _where(standing: Standing) -> str:
    return f"{standing.board}, {standing.protocol}"


def _rank(rank: int | None, note: str | None = None) -> str:
    if rank is None:
        return f"not ranked ({note})" if note else "not ranked"
    return f"rank {rank}"


def _score(score: float | None) -> str:
    return "none" if score is None else f"{score:.2f}"
