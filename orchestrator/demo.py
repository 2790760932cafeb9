"""The whole main job, small: corpus, feature store, sweep, registry, leaderboard, in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_store.build import BuildReport, build
from feature_store.counted import counted
from feature_store.datasets import open_corpus
from feature_store.datasets.synthetic import synthesize
from feature_store.features import resolve_feature
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from orchestrator.events import Watch
from orchestrator.execution.cluster import connect
from orchestrator.leaderboard.site.build import build_site
from orchestrator.sweep.run import SweepOutcome, run_sweep
from search_spaces.schema import SearchSpace

SPACE = Path(__file__).parents[1] / "search_spaces" / "demo.yaml"
PATIENTS, RECORDINGS, SEED = 20, 4, 0


@dataclass(frozen=True)
class DemoOutcome:
    """What the demo made, and where."""

    root: Path
    built: BuildReport
    sweep: SweepOutcome
    page: Path


def run_demo(
    settings: Settings, data: Path | None, say: Callable[[str], None], watch: Watch, overrides: tuple[str, ...] = ()
) -> DemoOutcome:
    """Run everything; what is finished already is not done again.

    Args:
        settings: whose home is the demo's own folder.
        data: a database in ICBHI's format; a synthetic one is made where it is None.
        say: told what begins.
        watch: told what the sweep does.
        overrides: ``key=value`` settings for the search space.

    Raises:
        UserError: the data given cannot be used.
    """
    space = SearchSpace.load(SPACE, overrides)
    root = data
    if root is None:
        root = settings.home / f"synthetic-{PATIENTS}"
        say(f"1/4 synthetic corpus of {counted(PATIENTS, 'patient')} in ICBHI's format: {root}")
        if not (root / "SYNTHETIC").exists():
            synthesize(root, patients=PATIENTS, recordings_per_patient=RECORDINGS, seed=SEED)
    else:
        say(f"1/4 corpus: {root}")
    say(f"2/4 feature store: {settings.store}")
    connect()
    spec: Any = resolve_feature(space.base["feature"])
    built = build(open_corpus("icbhi", root), spec, FeatureStore.open(settings.store, create=True))
    say(f"3/4 sweep: {space.description}")
    sweep = run_sweep(space, settings, watch)
    say("4/4 leaderboard")
    page = build_site(settings, settings.home / "leaderboard")
    return DemoOutcome(root, built, sweep, page)
