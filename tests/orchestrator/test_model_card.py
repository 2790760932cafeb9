"""The model card: one object from which tags, JSON and page are made, and what it says of real fold runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_store.errors import UserError
from feature_store.metrics import LABELS, MEANINGS, USUAL
from orchestrator.leaderboard.board import build_board
from orchestrator.registry.card.build_card import (
    best_seed,
    estimate_of,
    make_card,
    score_interval,
    search_part,
)
from orchestrator.registry.card.card import LIMITS, ModelCard
from orchestrator.registry.card.card_markdown import LONGEST_DESCRIPTION, description, page
from orchestrator.registry.package import CARD, CARD_PAGE, save_model
from tests.conftest import TINY_FEATURE
from tests.support.leaderboard_results import Recipe, Side, fold_result, publish
from tests.support.model_cards import a_card
from workers.config import ExperimentConfig
from workers.evaluation import evaluate
from workers.predictions import read_predictions
from workers.results import PREDICTIONS, WEIGHTS, FoldResult, ResultStore

CONFIG = ExperimentConfig.parse(
    {"feature": TINY_FEATURE, "model": {"name": "crnn", "hidden": 4}, "objective": {"name": "ce"}}
)
RECIPE = Recipe({"name": "crnn", "hidden": 4, "layers": 2})


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore.open(str(tmp_path / "results"))


def published(
    store: ResultStore, side: Side, folds: int, seeds: int, metric: str = "icbhi4", **changes: Any
) -> list[FoldResult]:
    """Fold runs with weights, as promoted ones are, of a task with that metric."""
    results = []
    for seed in range(seeds):
        for fold in range(folds):
            result, predictions = fold_result(RECIPE, side, fold, seed, **changes)
            result = result.model_copy(update={"data": result.data.model_copy(update={"metric": metric})})
            store.publish(result, {PREDICTIONS: predictions, WEIGHTS: f"weights of seed {seed}".encode()})
            results.append(result)
    return results


def test_tags_json_and_page_say_the_same() -> None:
    card = a_card()
    tags, text = card.tags(), page(card)
    assert ModelCard.of_tags(tags) == card == ModelCard.model_validate_json(tags["card"])
    assert tags["score"] == "56.00" and "**56.00 ± 0.80 (95 %: 52.00 to 60.00)**" in text
    assert (tags["score_low"], tags["score_high"], tags["score_sd"]) == ("52.00", "60.00", "0.80")
    for tag in (
        "specificity", "sensitivity", "score_icbhi2", "metric", "split", "protocol", "search_objective", "search_low",
        "search_high", "study", "config_hash", "data_hash", "split_hash", "feature_id", "weights_sha256", "lungtune",
        "git_commit", "semantics", "pretrained", "pretrained_licence", "licence", "intended_use", "dataset", "task",
    ):  # fmt: skip
        assert tags[tag] in text, tag
    for dependency in tags["dependencies"].split():
        assert dependency in text
    for name in tags["results"].split(","):
        assert name in text
    assert "150.0 minutes" in text and tags["train_seconds"] == "9000.0"
    assert "| GPU hours | 2.50 |" in text and tags["gpu_hours"] == "2.5000"
    assert "| energy | 1.250 kWh |" in text and tags["energy_kwh"] == "1.2500"
    assert "0, 1, 2; these weights are of seed 2, best on its held-out patients" in text and tags["seeds"] == "0,1,2"
    assert "| Meditron | 459 | 19 | 60.50 | 80.00 | 41.00 |" in text
    assert all(limit in text for limit in LIMITS) and "Not a medical device" in text
    assert "all 920 recordings" in text and "156, 218" in text


def test_what_is_not_known_is_said_so_and_has_no_tag() -> None:
    card = a_card(gpu_hours=None, energy_kwh=None, pretrained=None, search=None)
    text, tags = page(card), card.tags()
    assert "| GPU hours | none |" in text and "| energy | not measured |" in text and "pretrained weights" not in text
    assert not {"gpu_hours", "energy_kwh", "pretrained", "search_objective", "study"} & set(tags)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recordings": 199}, "199 of 920 recordings: a partial database"),
        ({"recordings": 24, "synthetic": True}, "24 synthetic recordings"),
        ({"compat": ["augment.gate"]}, "| copied defects | augment.gate |"),
        ({"test_reads": 51}, "the test side was read 51 times by a training"),
    ],
)
def test_what_lessens_a_score_stands_on_the_page(changes: dict, said: str) -> None:
    assert said in page(a_card(**changes)) and said not in page(a_card())


def test_the_description_is_as_much_of_the_page_as_mlflow_takes() -> None:
    assert description(a_card()) + "\n" == page(a_card())
    long = a_card(trained_on=["a GPU with a long name"] * 300)
    assert len(page(long)) > LONGEST_DESCRIPTION >= len(description(long))
    assert "Not a medical device" in description(long) and "## Training" not in description(long)


def test_every_table_of_the_page_is_whole() -> None:
    for block in page(a_card()).split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1, block


@pytest.mark.slow
def test_the_numbers_are_those_of_the_leaderboard(store: ResultStore) -> None:
    """Another code from the same fold runs: mean, deviation and interval over the published five folds."""
    results = published(store, Side("five-fold", patients=20, cycles=260, both_sides=()), folds=5, seeds=2)
    card = make_card("icbhi-lungsound4", CONFIG, results, store)
    (board,) = build_board(store).boards
    (entry,) = next(table for table in board.tables if table.protocol == "last").entries
    assert entry.numbers is not None
    for ours, theirs in (
        (card.score, entry.numbers.score),
        (card.specificity, entry.numbers.specificity),
        (card.sensitivity, entry.numbers.sensitivity),
        (card.score_icbhi2, entry.numbers.icbhi2_score),
    ):
        assert (ours.mean, ours.sd) == pytest.approx((theirs.mean, theirs.sd))
    assert (card.score.low, card.score.high) == pytest.approx((entry.numbers.score.low, entry.numbers.score.high))
    assert card.folds == 5 and card.missing_runs == []
    fewer = make_card("icbhi-lungsound4", CONFIG, results[:-1], store)
    assert fewer.missing_runs == [(1, 4)]


@pytest.mark.parametrize("metric", ["accuracy", "uar", "sprsound"])
def test_a_task_s_own_metric_is_the_card_s_number(store: ResultStore, metric: str) -> None:
    results = published(store, Side(patients=20, cycles=260), folds=1, seeds=3, metric=metric)
    search = search_part("study-1", 51.2, [results[0].hash], "last", store, metric)  # type: ignore[arg-type]
    card = make_card("icbhi-lungsound4", CONFIG, results, store, search)
    tests = [result.protocols["last"].test for result in results]
    assert card.metric == card.tags()["metric"] == metric
    assert card.score.mean == pytest.approx(np.mean([test.value(metric) for test in tests]))
    assert card.score.mean != pytest.approx(np.mean([test.icbhi4.score for test in tests]))
    assert card.score.low is not None and card.score.high is not None
    assert card.score.low < card.score.mean < card.score.high
    assert card.search is not None and card.search.score is not None
    assert card.search.score.mean == pytest.approx(tests[0].value(metric))
    table = store.predictions(results[0].hash).to_pandas()
    whole = [evaluate(np.stack(own["logits"]), own["label"].to_numpy()).value(metric)
             for _, own in table[table["protocol"] == "last"].groupby("device")]  # fmt: skip
    single = make_card("icbhi-lungsound4", CONFIG, results[:1], store)
    assert [row.score for row in single.devices] == pytest.approx(whole)
    text = page(card)
    assert f"| {LABELS[metric]} | **{card.score}** |" in text and f"| metric | {metric}: {MEANINGS[metric]} |" in text
    assert f"| {LABELS[metric]} over its folds | {card.search.score} |" in text
    assert f"| device | cycles | patients | {LABELS[metric]} | Sp | Se |" in text and "two classes" not in text


def test_the_weights_are_of_the_seed_that_does_best_by_the_task_s_own_metric(store: ResultStore) -> None:
    one, other = published(store, Side(patients=12, cycles=200), folds=1, seeds=2, metric="accuracy")

    def held_out(result: FoldResult, accuracy: float, score: float) -> FoldResult:
        content = result.model_dump(by_alias=True)
        validation = content["protocols"]["last"]["validation"]
        validation["accuracy"], validation["icbhi4"]["score"] = accuracy, score
        return FoldResult.model_validate(content)

    assert best_seed(CONFIG, [held_out(one, 60.0, 90.0), held_out(other, 70.0, 10.0)]).key.seed == 1


def test_devices_counts_and_weights_are_those_of_the_runs(store: ResultStore) -> None:
    results = published(store, Side(patients=12, cycles=200), folds=1, seeds=3)
    card = make_card("icbhi-lungsound4", CONFIG, results, store)
    tables = [store.predictions(result.hash).to_pandas() for result in results]
    tables = [table[table["protocol"] == "last"] for table in tables]
    assert [row.device for row in card.devices] == sorted(tables[0]["device"].unique())
    for row in card.devices:
        scores = []
        for table in tables:
            own = table[table["device"] == row.device]
            hit = np.stack(own["logits"]).argmax(axis=1) == own["label"]
            normal = own["label"] == 0
            scores.append(50 * sum(hit[side].mean() if side.any() else 0.0 for side in (normal, ~normal)))
        assert (row.cycles, row.patients) == (len(own), own["patient"].nunique())
        assert row.score == pytest.approx(np.mean(scores))
    assert sum(row.cycles for row in card.devices) == 200
    held_out = [result.protocols["last"].validation for result in results]
    best = max(range(3), key=lambda seed: held_out[seed].icbhi4.score if held_out[seed] else 0)  # type: ignore[union-attr]
    assert card.weights_seed == best and card.weights_result == results[best].hash
    assert card.patients_on_both_sides == ["156", "218"] and card.test_cycles == 200
    assert card.train_seconds == pytest.approx(sum(result.timing["train_seconds"] for result in results))
    assert card.gpu_hours is None and card.energy_kwh is None


def test_gpu_hours_and_energy_are_summed_over_the_runs(store: ResultStore) -> None:
    origin = fold_result(RECIPE, Side(), 0, 0)[0].provenance.model_copy(update={"device": "NVIDIA H200"})
    timing = {"train_seconds": 1800.0, "total_seconds": 1900.0, "energy_kwh": 0.25}
    results = published(store, Side(patients=12, cycles=200), 1, 2, provenance=origin, timing=timing)
    card = make_card("icbhi-lungsound4", CONFIG, results, store)
    assert card.gpu_hours == pytest.approx(1.0) and card.energy_kwh == pytest.approx(0.5)
    assert card.trained_on == ["NVIDIA H200"]


def test_the_search_s_interval_comes_from_its_fold_runs(store: ResultStore) -> None:
    side = Side("official-inner5", patients=12, cycles=220, both_sides=())
    names = publish(store, RECIPE, side, range(5), [0])
    results = [result for name in names if (result := store.get(name))]
    part = search_part("study-1", 51.2, names, "last", store, USUAL)
    assert part.score is not None and part.score.low is not None and part.score.high is not None
    assert part.score.mean == pytest.approx(np.mean([r.protocols["last"].test.icbhi4.score for r in results]))
    assert part.score.low < part.score.mean < part.score.high
    assert (part.split, part.folds, part.objective) == ("official-inner5", [0, 1, 2, 3, 4], 51.2)
    gone = search_part("study-1", 51.2, [*names, "0" * 40], "last", store, USUAL)
    assert gone.score is None and gone.objective == 51.2
    assert search_part("study-1", 51.2, [], "last", store, USUAL).score is None


def test_seeds_that_were_tested_on_different_cycles_have_no_interval(store: ResultStore) -> None:
    one = published(store, Side(patients=12, cycles=200), 1, 1)
    other, predictions = fold_result(RECIPE, Side(patients=12, cycles=190), 0, 1)
    store.publish(other, {PREDICTIONS: predictions})
    said = [read_predictions(store, result.hash)["last"] for result in (*one, other)]
    assert score_interval(one, said[:1], USUAL).keys() == {"low", "high"}
    assert score_interval([*one, other], said, USUAL) == {}
    assert estimate_of([*one, other], "last", lambda metrics: metrics.accuracy).sd is not None


@pytest.mark.parametrize(
    ("file", "licence"),
    [
        ("mn04_as_mAP_432.pt", "MIT"),
        ("audioset_10_10_0.4593.pth", "BSD-3-Clause"),
        ("SSAST-Base-Patch-400.pth", "BSD-3-Clause"),
        ("Cnn14_mAP=0.431.pth", "CC-BY-4.0"),
        ("vit_small_patch14_dinov2_fp16.pt", "Apache-2.0"),
        ("my_own_weights.pt", "unknown"),
    ],
)
def test_pretrained_weights_bring_their_licence_where_it_is_known(file: str, licence: str, store: ResultStore) -> None:
    results = published(store, Side(patients=12, cycles=200), 1, 1)
    pretrained = {"file": file, "sha256": "0" * 64}
    config = CONFIG.model_copy(update={"model": type(CONFIG.model)(name="crnn", pretrained=pretrained)})  # type: ignore
    card = make_card("icbhi-lungsound4", config, results, store)
    assert card.pretrained is not None and card.pretrained.licence.startswith(licence)


@pytest.mark.slow
def test_the_package_holds_the_card_as_page_and_json(store: ResultStore, tmp_path: Path) -> None:
    results = published(store, Side(patients=12, cycles=200), 1, 1)
    card = make_card("icbhi-lungsound4", CONFIG, results, store)
    save_model(tmp_path / "model", CONFIG, card, store)
    assert ModelCard.model_validate_json((tmp_path / "model" / CARD).read_text()) == card
    assert (tmp_path / "model" / CARD_PAGE).read_text() == page(card)
    assert json.loads((tmp_path / "model" / CARD).read_text())["score"]["mean"] == card.score.mean
    required = (tmp_path / "model" / "requirements.txt").read_text().splitlines()
    assert required == [str(dependency) for dependency in card.dependencies]


def test_a_run_without_weights_has_no_card(store: ResultStore) -> None:
    publish(store, RECIPE, Side(patients=12, cycles=200), seeds=[0])
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        make_card("icbhi-lungsound4", CONFIG, list(store.iterate()), store)
