"""The nightly run: what it checks, what it says, and what a crash, a second run and a lost server do to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

import orchestrator.nightly as module
from feature_store.errors import UserError
from feature_store.settings import Settings
from orchestrator.nightly import Night, run_night
from orchestrator.nightly.changes import compare, page
from orchestrator.nightly.snapshot import Checked, Snapshot, Standing, latest
from orchestrator.registry.registry import Registry
from orchestrator.studies.study import Study
from orchestrator.tracking.client import experiment_id
from tests.conftest import TINY_FEATURE, Run
from tests.orchestrator.test_study import space
from tests.orchestrator.test_webhook import Receiver, receiver  # noqa: F401
from workers.config import ExperimentConfig
from workers.fold import FoldRun, Site, run_fold
from workers.lease import lease
from workers.results import ResultStore

pytestmark = pytest.mark.slow

MODEL = "icbhi-lungsound4"
CONTENT: dict[str, Any] = {
    "feature": TINY_FEATURE,
    "model": {"name": "crnn", "hidden": 4, "layers": 1},
    "objective": {"name": "ce"},
    "training": {"epochs": 1, "batch_size": 16},
}


def train(settings: Settings, seed: int = 0, **changes: Any) -> tuple[ExperimentConfig, list[Any]]:
    site = Site(settings.store, settings.results, str(settings.cache), str(settings.weights), device="cpu")
    config = ExperimentConfig.parse({**CONTENT, **changes})
    return config, [run_fold(FoldRun(config, "official", 0, seed), site)]


@pytest.fixture(scope="module")
def made(small_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """An installation with one registered model; every test has a copy of its own."""
    settings = replace(Settings.load(tmp_path_factory.mktemp("made")), store=Settings.load(small_home).store)
    config, results = train(settings)
    registry = Registry.open(settings)
    run = registry.client.create_run(experiment_id(registry.client, MODEL, settings))
    registry.register(config, results, search_value=50.0, study="sweep-1", run_id=run.info.run_id)
    return settings


@pytest.fixture
def home(made: Settings, tmp_path: Path) -> Iterator[Settings]:
    """The installation moved aside, so that MLflow's absolute paths lead to this test's own copy."""
    aside = made.home.with_name(f"{made.home.name}-kept")
    shutil.copytree(made.home, aside)
    yield made
    shutil.rmtree(made.home)
    aside.rename(made.home)


def night(settings: Settings) -> Night:
    return run_night(settings, settings.home / "board")


def test_the_first_night_knows_everything_and_the_second_says_that_nothing_changed(home: Settings) -> None:
    first = night(home)
    assert first.changes.since is None and len(first.changes.new) == 2, "one training, two honest protocols"
    assert not first.changes.refused and (home.home / "board" / "index.html").exists()
    snapshot = latest(ResultStore.open(home.results).storage)
    assert snapshot is not None and snapshot.checked[f"{MODEL}/1"].passed
    second = night(home)
    assert second.changes.nothing and second.changes.since == first.changes.when
    assert "nothing changed" in second.report.lower()


def test_a_new_entry_a_rank_and_a_failed_trial_are_told(home: Settings) -> None:
    night(home)
    train(home, training={"epochs": 2, "batch_size": 16})
    with Study.lease(space(), home, 5) as study:
        study.tell(study.ask().number, None, error="out of memory")
        lost = study.ask()
        assert study.take_up() == 1 and study.trials()[0].state == TrialState.FAIL
        assert lost.number == 1, "what a killed driver left has not failed"
        name = study.name
    changes = night(home).changes
    assert len(changes.new) == 2 and changes.failed == {f"{name}/0": "out of memory"}
    assert all(standing.rank is not None for standing in changes.new.values())
    assert night(home).changes.nothing, "told once"


def tamper(path: Path) -> None:
    """Every Score of a result's test side becomes better than its predictions."""
    content = json.loads(path.read_text())
    for protocol in content["protocols"].values():
        protocol["test"]["icbhi4"]["score"] += 9.0
    path.write_text(json.dumps(content))


def test_a_score_that_was_tampered_with_is_caught(home: Settings) -> None:
    night(home)
    (path,) = Path(home.results).glob("*/*/result.json")
    before = path.read_text()
    tamper(path)
    changes = night(home).changes
    assert len(changes.ranks) == 2 and all(change.after is None for change in changes.ranks)
    assert all("by its predictions" in str(change.note) for change in changes.ranks), "the board does not take it"
    assert changes.summary == "2 entries contradict their predictions, 2 entries lost their rank"
    assert not changes.refused, "the weights still give the stored predictions"
    again = night(home)
    assert len(again.changes.contradicted) == 2 and again.changes.alarming, "said every night until it is mended"
    assert not again.changes.ranks and "## Entries that contradict their predictions" in again.report
    path.write_text(before)
    mended = night(home).changes
    assert not mended.contradicted and not mended.alarming and len(mended.ranks) == 2


def test_predictions_that_were_tampered_with_are_caught(home: Settings) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    night(home)
    (path,) = Path(home.results).glob("*/*/predictions.parquet")
    table = pq.read_table(path)
    hits = [[9.0 if i == label else 0.0 for i in range(4)] for label in table["label"].to_pylist()]
    column = table.schema.get_field_index("logits")
    pq.write_table(table.set_column(column, "logits", pa.array(hits, table["logits"].type)), path)
    found = night(home)
    assert "not the card's" in found.changes.refused[f"{MODEL}/1"]
    assert night(home).changes.refused, "it is said again every night until it is mended"


def test_a_model_whose_files_are_gone_is_told_and_the_rest_goes_on(home: Settings, run: Run) -> None:
    (weights,) = (home.home / "mlflow-artifacts").rglob("model.safetensors")
    shutil.rmtree(weights.parent)
    found = night(home)
    assert "gone" in found.changes.refused[f"{MODEL}/1"] and len(found.changes.new) == 2
    weights.parent.mkdir(parents=True)


def test_a_run_that_was_killed_leaves_the_night_before_to_compare_with(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = night(home)
    train(home, seed=1)
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):

        def struck(*arguments: Any) -> None:
            raise KeyboardInterrupt

        killed.setattr(module, "_write", struck)
        night(home)
    again = night(home).changes
    assert again.since == first.changes.when and (again.new or again.scores), "the second seed is not lost"


def test_two_nights_at_once_are_one(home: Settings) -> None:
    storage = ResultStore.open(home.results).storage
    with (
        lease(storage, "nightly", "/elsewhere", beat=0.1),
        pytest.raises(UserError, match="another driver is running the nightly run"),
    ):
        night(home)


def test_without_the_registry_the_board_is_built_and_the_last_word_on_models_stays(home: Settings) -> None:
    first = night(home)
    without = night(replace(home, mlflow="http://127.0.0.1:9"))
    assert any("registry cannot be read" in warning for warning in without.warnings)
    assert without.changes.since == first.changes.when and not without.changes.champions
    snapshot = latest(ResultStore.open(home.results).storage)
    assert snapshot is not None and snapshot.checked[f"{MODEL}/1"].passed


def test_a_board_that_cannot_be_written_is_an_error_and_no_night(home: Settings) -> None:
    (home.home / "taken").write_text("a file")
    with pytest.raises(UserError):
        run_night(home, home.home / "taken" / "board")
    assert latest(ResultStore.open(home.results).storage) is None


def test_the_command_says_it_in_markdown_in_json_and_to_the_webhook(
    home: Settings,
    run: Run,
    receiver: Receiver,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LUNGTUNE_HOME", str(home.home))
    monkeypatch.setenv("LUNGTUNE_WEBHOOK", f"http://127.0.0.1:{receiver.server_port}/secret")
    code, printed, _ = run("nightly")
    assert code == 0 and "## New entries" in printed and "rank 1" in printed
    (weights,) = (home.home / "mlflow-artifacts").rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4] + b"\x00\x00\x00\x01")
    code, printed, _ = run("nightly", "--json")
    assert code == 1 and "SHA-256" in json.loads(printed)["changes"]["refused"][f"{MODEL}/1"]
    assert [news["event"] for news in receiver.news] == ["nightly", "nightly"]
    assert "1 registered model fails its check" in receiver.news[1]["text"]


def test_the_command_exits_with_one_where_an_entry_contradicts_its_predictions(
    home: Settings, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever watches the exit code sees it every night, with the reason in what is printed."""
    monkeypatch.setenv("LUNGTUNE_HOME", str(home.home))
    (path,) = Path(home.results).glob("*/*/result.json")
    tamper(path)
    for _ in range(2):
        code, printed, _ = run("nightly")
        assert code == 1 and "by its predictions" in printed
    code, printed, _ = run("nightly", "--json")
    assert code == 1 and len(json.loads(printed)["changes"]["contradicted"]) == 2


@pytest.fixture
def copied(made: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The installation at another place, whose registry may be written: MLflow keeps connections to files open."""
    shutil.copytree(made.home, tmp_path / "copied")
    monkeypatch.setenv("LUNGTUNE_HOME", str(tmp_path / "copied"))
    return replace(Settings.load(tmp_path / "copied"), store=made.store)


@pytest.mark.parametrize("card", ["{}", "no JSON", '{"score": []}'])
def test_a_card_that_cannot_be_read_is_named_and_the_rest_goes_on(run: Run, copied: Settings, card: str) -> None:
    Registry.open(copied).client.set_model_version_tag(MODEL, "1", "card", card)
    found = night(copied)
    assert "model card cannot be read" in found.changes.refused[f"{MODEL}/1"] and len(found.changes.new) == 2
    assert run("leaderboard", "build")[0] == 0
    code, printed, _ = run("registry", "list", "--json")
    (version,) = json.loads(printed)
    assert code == 0 and version["card"] is None and "cannot be read" in version["problem"]
    code, printed, _ = run("registry", "show", f"{MODEL}/1")
    assert code == 0 and "card cannot be read" in printed
    code, _, told = run("registry", "verify", f"{MODEL}/1")
    assert code == 2 and "model card cannot be read" in told


def test_a_history_of_champions_that_cannot_be_read_is_named_and_the_rest_is_shown(copied: Settings) -> None:
    Registry.open(copied).client.set_registered_model_tag(MODEL, "lungtune.champion.9", "no JSON")
    found = night(copied)
    assert any("history of model" in warning for warning in found.warnings) and len(found.changes.new) == 2


def test_a_night_that_crashes_exits_with_two(home: Settings, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 means that the night was done, and something is not what was stored of it."""
    monkeypatch.setenv("LUNGTUNE_HOME", str(home.home))

    def crash(*arguments: Any, **options: Any) -> None:
        raise ZeroDivisionError("a [bug]")

    monkeypatch.setattr(module, "compare", crash)
    code, _, told = run("nightly")
    assert code == 2 and "ZeroDivisionError: a [bug]" in told and "Traceback" not in told
    assert latest(ResultStore.open(home.results).storage) is None


# --- two nights compared ---


def standing(rank: int | None, score: float | None) -> Standing:
    return Standing(board="icbhi lungsound4 official", protocol="last", label="AST, CE (abc)", rank=rank, score=score)


def test_every_kind_of_change_is_found_and_told() -> None:
    before = Snapshot(
        when="2026-01-01T00:00:00+00:00",
        entries={"a": standing(1, 60.0), "b": standing(2, 50.0), "gone": standing(3, 40.0)},
        champions={"m": "1"},
        checked={"m/1": Checked(passed=False, detail="x"), "m/2": Checked(passed=True, detail="")},
        failed={"s/0": "old"},
        problems={"r0": "old"},
    )
    after = Snapshot(
        when="2026-01-02T00:00:00+00:00",
        entries={"a": standing(2, 60.0), "b": standing(1, 61.0), "new": standing(None, None)},
        champions={"m": "2"},
        checked={"m/1": Checked(passed=True, detail=""), "m/2": Checked(passed=False, detail="weights differ")},
        failed={"s/0": "old", "s/1": "out of\nmemory"},
        problems={"r0": "old", "r1": "another version's"},
    )
    changes = compare(before, after)
    assert (list(changes.new), list(changes.gone)) == (["new"], ["gone"])
    assert [(c.entry, c.before, c.after) for c in changes.ranks] == [("a", 1, 2), ("b", 2, 1)]
    assert [(c.entry, c.before, c.after) for c in changes.scores] == [("b", 50.0, 61.0)]
    assert [(c.before, c.after) for c in changes.champions] == [("1", "2")]
    assert (changes.refused, changes.recovered) == ({"m/2": "weights differ"}, ["m/1"])
    assert (list(changes.failed), list(changes.problems)) == (["s/1"], ["r1"])
    assert changes.summary.startswith("1 registered model fails its check, 1 new champion, 1 new entry, 2 rank changes")
    told = page(changes, ["no registry"])
    for line in (
        "- no registry",
        "**m/2**: weights differ",
        "m: version 1 -> 2",
        "rank 1 -> rank 2",
        "Score 50.00 -> 61.00",
    ):
        assert line in told
    assert "- s/1: out of memory\n" in told, "an error of several lines is one"


def test_a_lost_rank_that_contradicts_nothing_is_no_alarm() -> None:
    """An entry may also lose its rank since the test side grew, or a seed is not complete."""
    before = Snapshot(when="2026-01-01T00:00:00+00:00", entries={"a": standing(1, 60.0)})
    partial = standing(None, 60.0).model_copy(update={"note": "tested on 100 of 200 cycles"})
    changes = compare(before, Snapshot(when="2026-01-02T00:00:00+00:00", entries={"a": partial}))
    assert len(changes.lost_rank) == 1 and not changes.alarming and changes.summary == "1 entry lost its rank"


def test_an_entry_is_told_by_the_metric_of_its_table() -> None:
    heard = {"a": standing(1, 73.4).model_copy(update={"metric": "accuracy"})}
    first = compare(None, Snapshot(when="2026-01-01T00:00:00+00:00", entries=heard))
    assert "accuracy 73.40" in page(first, []) and "Score" not in page(first, [])
    better = {"a": heard["a"].model_copy(update={"score": 74.0})}
    second = compare(Snapshot(when="1", entries=heard), Snapshot(when="2", entries=better))
    assert "accuracy 73.40 -> 74.00" in page(second, [])


def test_a_snapshot_of_another_version_is_passed_over(tmp_path: Path) -> None:
    from feature_store.storage import LocalStorage

    storage = LocalStorage(tmp_path)
    assert latest(storage) is None
    good = Snapshot(when="2026-01-01T00:00:00+00:00", entries={"a": standing(1, 60.0)})
    storage.write("nightly/2026-01-01T000000Z/snapshot.json", good.model_dump_json().encode())
    newer = good.model_copy(update={"schema_version": 99, "when": "2026-01-02T00:00:00+00:00"})
    storage.write("nightly/2026-01-02T000000Z/snapshot.json", newer.model_dump_json().encode())
    storage.write("nightly/2026-01-03T000000Z/snapshot.json", b'{"half": ')
    storage.write("nightly/2026-01-04T000000Z/changes.md", b"# killed before its snapshot")
    assert latest(storage) == good
