"""The board's statistics against plain loops, closed forms, scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import recall_score

from orchestrator.analysis import bootstrap
from workers.evaluation import evaluate


def some_predictions(seed: int = 0, patients: int = 20, cycles: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.choice(4, cycles, p=[0.5, 0.25, 0.15, 0.1])
    predicted = np.where(generator.random(cycles) < 0.6, labels, generator.integers(0, 4, cycles))
    return predicted, labels, np.array([f"p{i:02d}" for i in generator.integers(0, patients, cycles)])


def sklearn_score(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Score by scikit-learn: recall of normal, and of the abnormal classes weighted by their size."""
    normal = recall_score(labels == 0, (predicted == 0) & (labels == 0))
    abnormal = labels > 0
    exact = recall_score(labels[abnormal], predicted[abnormal], average="micro", labels=[1, 2, 3])
    return 50.0 * (normal + exact)


METRICS = ("icbhi4", "icbhi2", "accuracy", "uar", "sprsound", "sprsound_record")


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_of_all_patients_is_the_evaluations(metric: str):
    predicted, labels, patients = some_predictions()
    hits = bootstrap.patient_hits(predicted, labels, patients, metric, classes=5)  # one class does not occur
    value = evaluate(np.eye(5)[predicted], labels).value(metric)
    assert hits.score == pytest.approx(value)
    assert hits.cycles.sum() == len(labels)
    assert hits.without(["p03"]).score == pytest.approx(
        evaluate(np.eye(5)[predicted[patients != "p03"]], labels[patients != "p03"]).value(metric)
    )


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_drawn_as_a_plain_loop_draws_it(metric: str):
    """The mean over seeds of the evaluation's own value on the drawn cycles; entries of other seeds stand beside it."""
    _, labels, patients = some_predictions()
    generator = np.random.default_rng(4)
    seeds = [np.where(generator.random(400) < rate, labels, generator.integers(0, 4, 400)) for rate in (0.2, 0.5, 0.9)]
    hits = [bootstrap.patient_hits(predicted, labels, patients, metric, classes=4) for predicted in seeds]
    together, first, pair = bootstrap.bootstrap(
        [[bootstrap.over_seeds(hits)], [hits[0]], [bootstrap.over_seeds(hits[1:])]], resamples=150, seed=3
    )
    slow = []
    for draw in bootstrap.draws(20, 150, 3):
        rows = np.concatenate([np.tile(np.flatnonzero(patients == name), int(times))
                               for name, times in zip(hits[0].patients, draw, strict=True)])  # fmt: skip
        slow.append([evaluate(np.eye(4)[predicted[rows]], labels[rows]).value(metric) for predicted in seeds])
    np.testing.assert_allclose(together, np.mean(slow, axis=1), rtol=1e-5)
    np.testing.assert_allclose(first, np.array(slow)[:, 0], rtol=1e-5)
    np.testing.assert_allclose(pair, np.mean(np.array(slow)[:, 1:], axis=1), rtol=1e-5)


def test_a_resample_without_a_class_that_was_tested_has_no_mean_recall():
    labels, patients = np.array([0, 1, 2, 0, 1]), np.array(["a", "a", "b", "c", "c"])
    (samples,) = bootstrap.bootstrap([[bootstrap.patient_hits(labels, labels, patients, "uar", 5)]], resamples=2_000)
    drawn = bootstrap.draws(3, 2_000)
    whole = (drawn[:, 1] > 0) & (drawn[:, 0] + drawn[:, 2] > 0)
    np.testing.assert_array_equal(np.isfinite(samples), whole)
    assert set(samples[whole]) == {100.0}


def test_hits_of_two_metrics_are_not_compared():
    rows = some_predictions()
    with pytest.raises(ValueError, match="different cycles"):
        bootstrap.bootstrap([[bootstrap.patient_hits(*rows)], [bootstrap.patient_hits(*rows, "sprsound")]], 10)


def test_score_of_all_patients_is_scikit_learns():
    predicted, labels, patients = some_predictions()
    hits = bootstrap.patient_hits(predicted, labels, patients)
    assert hits.score == pytest.approx(sklearn_score(predicted, labels))
    assert hits.counts[:, [1, 3]].sum() == len(labels)


@pytest.mark.slow
def test_bootstrap_equals_a_plain_loop():
    predicted, labels, patients = some_predictions()
    hits = bootstrap.patient_hits(predicted, labels, patients)
    (fast,) = bootstrap.bootstrap([[hits]], resamples=150, seed=3)
    slow = []
    for draw in bootstrap.draws(len(hits.patients), 150, 3):
        rows = [row for name, times in zip(hits.patients, draw, strict=True) for _ in range(int(times))
                for row in np.flatnonzero(patients == name)]  # fmt: skip
        slow.append(sklearn_score(predicted[rows], labels[rows]))
    np.testing.assert_allclose(fast, slow, rtol=1e-5)


def test_interval_agrees_with_scipy():
    predicted, labels, patients = some_predictions(1, patients=40, cycles=1500)
    hits = bootstrap.patient_hits(predicted, labels, patients)
    own = bootstrap.interval(bootstrap.bootstrap([[hits]], resamples=10_000)[0])
    other = stats.bootstrap(
        (np.arange(40),),
        lambda rows, axis: bootstrap.scores(hits.counts[rows].sum(axis=-2)),
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(9),
        vectorized=True,
    ).confidence_interval
    assert own == pytest.approx((other.low, other.high), abs=0.25)


def test_deviation_has_its_closed_form_for_equal_patients():
    generator = np.random.default_rng(2)
    rate = generator.uniform(0.3, 0.9, 50)  # 10 normal and 10 abnormal cycles each, all abnormal ones hit
    counts = np.stack([rate * 10, np.full(50, 10.0), np.full(50, 10.0), np.full(50, 10.0)], axis=1)
    samples = bootstrap.bootstrap([[bootstrap.PatientHits(tuple(map(str, range(50))), counts)]])[0]
    assert samples.std() == pytest.approx(50.0 * rate.std() / np.sqrt(50), rel=0.03)
    assert samples.mean() == pytest.approx(50.0 * (rate.mean() + 1), abs=0.1)


def test_cycles_of_one_patient_are_not_taken_for_independent():
    labels = np.repeat([0, 1], 600)
    patients = np.tile(np.repeat(np.arange(20), 30), 2).astype(str)
    predicted = np.where(patients.astype(int) % 2 == 0, labels, 3)  # half the patients always right
    by_patient = bootstrap.bootstrap([[bootstrap.patient_hits(predicted, labels, patients)]])
    by_cycle = bootstrap.bootstrap(
        [[bootstrap.patient_hits(predicted, labels, [f"{i:04d}" for i in range(1200)])]], 500
    )
    assert by_patient.std() > 3 * by_cycle.std()


def test_draws_are_fair_repeatable_and_shared():
    draws = bootstrap.draws(7, 20_000, 1)
    assert draws.shape == (20_000, 7)
    assert (draws.sum(axis=1) == 7).all()
    np.testing.assert_allclose(draws.mean(axis=0), 1.0, atol=0.03)
    assert draws is bootstrap.draws(7, 20_000, 1)
    assert not np.array_equal(draws, bootstrap.draws(7, 20_000, 2))
    with pytest.raises(ValueError, match="read-only"):
        draws[0, 0] = 1


def test_folds_are_drawn_apart_and_averaged():
    folds = [bootstrap.patient_hits(*some_predictions(seed)) for seed in (0, 1, 2)]
    (samples,) = bootstrap.bootstrap([folds], resamples=4_000)
    assert samples.mean() == pytest.approx(np.mean([fold.score for fold in folds]), abs=0.5)
    alone = [bootstrap.bootstrap([[fold]], resamples=4_000).std() for fold in folds]
    assert samples.std() == pytest.approx(np.sqrt(np.sum(np.square(alone))) / 3, rel=0.08)  # independent folds


def test_the_seeds_hits_together_give_the_mean_of_their_scores():
    _, labels, patients = some_predictions()
    generator = np.random.default_rng(5)
    seeds = [bootstrap.patient_hits(generator.integers(0, 4, len(labels)), labels, patients) for _ in range(3)]
    assert bootstrap.over_seeds(seeds).score == pytest.approx(np.mean([seed.score for seed in seeds]))


def test_seeds_tested_on_different_cycles_are_refused():
    predicted, labels, patients = some_predictions()
    hits = bootstrap.patient_hits(predicted, labels, patients)
    fewer = bootstrap.patient_hits(predicted[:-1], labels[:-1], patients[:-1])
    with pytest.raises(ValueError, match="different cycles"):
        bootstrap.over_seeds([hits, fewer])


def test_resamples_without_an_abnormal_cycle_are_left_out():
    labels = np.array([0] * 30 + [1] * 3)
    patients = np.array([f"p{i % 10}" for i in range(30)] + ["p9"] * 3)
    (samples,) = bootstrap.bootstrap([[bootstrap.patient_hits(labels, labels, patients)]], resamples=5_000)
    assert np.isnan(samples).mean() == pytest.approx(0.9**10, abs=0.02)  # p9 is not drawn
    assert bootstrap.interval(samples) == (100.0, 100.0)


def test_no_interval_where_no_resample_has_a_score():
    labels = np.zeros(10, dtype=int)
    hits = bootstrap.patient_hits(labels, labels, [f"p{i}" for i in range(10)])
    assert bootstrap.interval(bootstrap.bootstrap([[hits]], resamples=100)[0]) is None
    assert hits.score == pytest.approx(evaluate(np.eye(4)[labels], labels).icbhi4.score) == 50.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=2, max_size=8))
def test_mean_and_sd_are_numpys(values: list[float]):
    mean, sd = bootstrap.mean_and_sd(values)
    assert mean == pytest.approx(np.mean(values), abs=1e-9)
    assert sd == pytest.approx(np.std(values, ddof=1), abs=1e-9)


def test_one_seed_has_no_deviation():
    assert bootstrap.mean_and_sd([51.2]) == (51.2, None)


def test_entries_of_one_call_meet_the_same_draws_as_alone_to_the_last_bit():
    _, labels, patients = some_predictions(patients=30)
    generator = np.random.default_rng(7)
    entries = [
        [bootstrap.over_seeds([bootstrap.patient_hits(generator.integers(0, 4, len(labels)), labels, patients)
                                for _ in range(seeds)])]
        for seeds in (1, 2, 3, 5)
    ]  # fmt: skip
    together = bootstrap.bootstrap(entries, resamples=2_500)
    alone = [bootstrap.bootstrap([folds], resamples=2_500)[0] for folds in entries]
    np.testing.assert_array_equal(together, np.stack(alone))


def test_equal_scores_of_one_seed_and_of_three_are_equal_in_every_resample():
    predicted, labels, patients = some_predictions()
    hits = bootstrap.patient_hits(predicted, labels, patients)
    one, three = bootstrap.bootstrap([[hits], [bootstrap.over_seeds([hits, hits, hits])]], resamples=1_000)
    np.testing.assert_array_equal(one, three)


def test_entries_tested_on_different_cycles_are_refused():
    predicted, labels, patients = some_predictions()
    hits = bootstrap.patient_hits(predicted, labels, patients)
    with pytest.raises(ValueError, match="different cycles"):
        bootstrap.bootstrap([[hits], [bootstrap.patient_hits(predicted[:-1], labels[:-1], patients[:-1])]], 10)


def test_a_fold_without_an_abnormal_cycle_drawn_is_left_out_of_that_mean():
    labels = np.array([0, 0, 0, 0, 1, 1])
    patients = np.array(["a", "b", "c", "d", "d", "d"])
    rare = bootstrap.patient_hits(labels, labels, patients)  # 100 where patient d is drawn, else not defined
    other = bootstrap.patient_hits(*some_predictions())
    (samples,) = bootstrap.bootstrap([[rare, other]], resamples=2_000, seed=1)
    (second,) = bootstrap.bootstrap([[other]], resamples=2_000, seed=2)  # the draws of fold 1
    drawn = bootstrap.draws(4, 2_000, 1)[:, 3] > 0
    assert 0.1 < (~drawn).mean() < 0.5
    np.testing.assert_allclose(samples[~drawn], second[~drawn], rtol=1e-6)
    np.testing.assert_allclose(samples[drawn], (second[drawn] + np.where(
        (bootstrap.draws(4, 2_000, 1)[drawn, :] > 0).any(axis=1), 100.0, np.nan)) / 2, rtol=1e-6)  # fmt: skip


def test_folds_put_together_give_the_evaluations_score():
    parts = [some_predictions(seed) for seed in (0, 1, 2)]
    together = bootstrap.pooled([bootstrap.patient_hits(*part) for part in parts])
    predicted, labels = (np.concatenate([part[index] for part in parts]) for index in (0, 1))
    assert together.score == pytest.approx(evaluate(np.eye(4)[predicted], labels).icbhi4.score)


def test_patients_can_be_left_out():
    predicted, labels, patients = some_predictions()
    stay = ~np.isin(patients, ["p03", "p07"])
    rest = bootstrap.patient_hits(predicted, labels, patients).without(["p03", "p07", "absent"])
    assert rest.score == pytest.approx(sklearn_score(predicted[stay], labels[stay]))
    assert len(rest.patients) == 18
