"""Cells of a ranking on the board's page, as HTML: a value, and in small what explains it. The value comes first."""

from __future__ import annotations

from html import escape

from orchestrator.analysis import labels
from orchestrator.analysis.items import Estimate
from orchestrator.leaderboard.headings import badge
from orchestrator.leaderboard.schema import Entry
from orchestrator.leaderboard.site.figures import colour


def rank(entry: Entry) -> str:
    """The rank, ``=`` where it is tied, and the rank's interval where that is longer than one rank."""
    tie = '<abbr title="tied with the first of its group: no difference shows">=</abbr>' if entry.tied_with else ""
    span = ""
    if entry.rank_low is not None and entry.rank_low != entry.rank_high:
        span = _small("range", f"{entry.rank_low} – {entry.rank_high}", title="95 % interval of the rank")
    return f'<span class="place">{entry.rank}{tie}</span>{span}'


def model(entry: Entry) -> str:
    """The model with a link to its page, its badges, and what tells it from its neighbours."""
    name = f'<a href="entries/{entry.id}.html">{escape(entry.model.label)}</a>'
    registered = f' <span class="tag gold">{escape(badge(entry))}</span>' if entry.registered else ""
    ensemble = ' <span class="tag">ensemble</span>' if entry.kind == "ensemble" else ""
    differs = "".join(f"<span>{escape(item)}</span> " for item in labels.differs(entry))
    dot = f'<span class="dot {colour(entry.model.family)}"></span>'
    small = (
        _small("phone", entry.objective.label) + f"<small>{differs}<code>{escape(entry.config_hash[:8])}</code></small>"
    )
    return dot + name + registered + ensemble + small


def objective(entry: Entry) -> str:
    """The objective and its settings."""
    return f"{escape(entry.objective.label)}<small>{escape(' · '.join(labels.settings(entry)))}</small>"


def score(estimate: Estimate) -> str:
    """The mean over seeds, its deviation and its interval."""
    deviation = "" if estimate.sd is None else _small("sd", f"±{estimate.sd:.1f}")
    interval = "" if estimate.low is None else _small("range", f"{estimate.low:.1f} – {estimate.high:.1f}")
    return f'<b class="score">{estimate.mean:.1f}</b>{deviation}{interval}'


def pretraining(entry: Entry) -> str:
    """The corpora of the pretrained weights, and what else was trained on."""
    extra = f"<small>and {escape(', '.join(entry.extra_data))}</small>" if entry.extra_data else ""
    return (escape(entry.pretraining) if entry.pretraining else _quiet("none")) + extra


def minutes(entry: Entry) -> str:
    """The minutes of training, and on what."""
    return f"{entry.cost.train_minutes:.1f}{_small('device', entry.cost.device)}"


def watched(entry: Entry) -> str:
    """Whether the test side was scored during training."""
    return '<span class="tag warn">yes</span>' if entry.test_watched else _quiet("no")


def _small(kind: str, content: str, title: str = "") -> str:
    hint = f' title="{title}"' if title else ""
    return f'<small class="{kind}"{hint}>{escape(content)}</small>'


def _quiet(content: str) -> str:
    return f'<span class="quiet">{content}</span>'
