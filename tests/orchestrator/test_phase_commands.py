"""The breathing-phase classifier by the same commands, store, sweep, registry and board as everything else."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_store.datasets import open_corpus
from feature_store.errors import UserError
from feature_store.settings import Settings
from feature_store.yaml_files import read_yaml
from orchestrator.contest import submission, weighted
from orchestrator.registry.version import Registered
from search_spaces.overrides import flatten, merge, override
from search_spaces.presets import load_preset, preset_description
from search_spaces.schema import SearchSpace
from tests.conftest import Run
from tests.support.breathing_clips import write_clips
from workers.config import ExperimentConfig
from workers.results import FoldResult, ResultStore

ROOT = Path(__file__).parents[2]
DATASET = "breathing-phase"
QUICK = ("model.resize=0.25", "training.epochs=2", "training.batch_size=8", "objective.plain_epochs=1")
MEMBERS: dict[str, dict[str, Any]] = {  # docs/specification.md, 5.4 and 5.5
    "breathing_phase_cnn8": {
        "model.name": "cnn8", "model.dropout": 0.3, "optim.lr": 4e-4, "objective.cutmix_prob": 0.6,
        "objective.mixup_prob": 0.4, "objective.plain_epochs": 4, "training.epochs": 100, "training.patience": 25,
    },
    "breathing_phase_vgg": {
        "model.name": "vgg", "model.dropout": 0.2, "optim.lr": 1e-3, "objective.cutmix_prob": 0.5,
        "objective.mixup_prob": 0.5, "objective.plain_epochs": 5, "training.epochs": 140, "training.patience": 55,
    },
}  # fmt: skip
BOTH = {
    "dataset": DATASET, "task": "phase2", "feature.kind": "phase9", "feature.sample_rate": 16000,
    "feature.seconds": 1.0, "feature.pad": "zero", "feature.fade_seconds": 0.0, "objective.cutmix_alpha": 1.0,
    "objective.mixup_alpha": 0.2, "augment.policy": "none", "optim.name": "adamw", "optim.weight_decay": 1e-4,
    "optim.schedule": "warmup_cosine", "optim.warmup_share": 0.05, "optim.lowest_lr": 1e-6, "optim.clip_norm": 1.0,
    "training.batch_size": 512, "training.drop_last": True, "training.metric": "accuracy",
    "training.protocol": "validation", "training.watch_test": False, "training.average.name": "none",
}  # fmt: skip


def quick(*more: str) -> Iterator[str]:
    for setting in (*QUICK, *more):
        yield from ("--set", setting)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty clips with labels, two of three exhaled, so that accuracy is not the Score; and twenty without."""
    root = write_clips(tmp_path_factory.mktemp("clips"), count=30, tested=20)
    header, *rows = (root / "train.csv").read_text().splitlines()
    for number in range(0, len(rows), 6):
        rows[number] = rows[number].replace("_I_", "_E_").replace(",I", ",E")
    (root / "train.csv").write_text("\n".join([header, *rows]))
    return root


@pytest.fixture(scope="module")
def phase_store(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    from feature_store.build import build
    from feature_store.features import NAMED
    from feature_store.store import FeatureStore

    uri = str(tmp_path_factory.mktemp("store"))
    build(open_corpus(DATASET, clips), NAMED["phase9"], FeatureStore.open(uri, create=True), workers=0)
    return uri


@pytest.fixture
def settings(tmp_path: Path, phase_store: str) -> Settings:
    """What the fixture `run` takes its home from: a fresh one over the store of clips."""
    return replace(Settings.load(tmp_path / "home"), store=phase_store)


def trained(run: Run, preset: str, *arguments: str) -> list[dict[str, Any]]:
    code, out, err = run("train", preset, "--split", "grouped", *quick(), "--json", *arguments)
    assert code == 0, err
    return json.loads(out)["runs"]


@pytest.mark.slow
def test_the_audit_shows_what_the_random_split_leaks(run: Run, shared_data: Path) -> None:
    root = shared_data / "breathing_phase"
    if not root.is_dir():
        pytest.skip("no breathing-phase clips among the real data")
    code, out, err = run("data", "check", "--dataset", DATASET, "--root", root)
    assert code == 0, err
    assert "random, fold 0: 388 patients on both sides; 444 of 800 tested cycles are theirs (55.5%)." in out
    assert "No patient is on both sides of grouped." in out and "All 2 published counts are reproduced." in out
    assert out.count("\nrandom   0 ") == 20, "the first of them, without --all"


# --- presets ---


@pytest.mark.spec("O5")
@pytest.mark.parametrize("name", MEMBERS)
def test_a_preset_dumps_the_published_values(name: str) -> None:
    config = ExperimentConfig.parse(load_preset(name))
    dumped = flatten(config.model_dump(mode="json"))
    wanted = {**BOTH, **MEMBERS[name]}
    assert {key: dumped[key] for key in wanted} == wanted
    assert config.compat == [] and "breathing-phase" in preset_description(name)


def test_the_header_names_the_switches_that_bring_the_defects_back() -> None:
    header = (ROOT / "search_spaces" / "presets" / "breathing_phase_cnn8.yaml").read_text()
    switches = [line.split("--set ")[1].split()[0] for line in header.splitlines() if "--set " in line]
    for name in MEMBERS:
        config = ExperimentConfig.parse(override(load_preset(name), switches))
        assert config.compat == ["feature.lpc_frames", "model.scalar_scale", "objective.cutmix_scalars"]
        assert config.training.watch_test


def test_the_search_space_searches_both_models_by_accuracy_on_whole_recordings() -> None:
    space = SearchSpace.load(ROOT / "search_spaces" / "breathing_phase.yaml")
    assert space.evaluation.metric == "accuracy" and space.evaluation.split == "grouped-inner5"
    corners = {family: space.corners(family) for family in space.family_names}
    assert {config.model.name for configs in corners.values() for config in configs} == {"cnn8", "vgg"}
    assert {config.training.epochs for config in corners["vgg"]} == {140}


# --- no side doors ---


@pytest.mark.slow
def test_nothing_outside_the_adapters_asks_which_dataset_it_is() -> None:
    """No comparison or match with a corpus' name, but in the package that reads corpora."""
    from feature_store.datasets import CORPORA

    wrong = []
    for layer in ("feature_store", "workers", "search_spaces", "orchestrator"):
        for path in sorted((ROOT / layer).rglob("*.py")):
            if "datasets" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                asked = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
                asked += [node.value] if isinstance(node, ast.MatchValue) else []
                names = {leaf.value for one in asked for leaf in ast.walk(one) if isinstance(leaf, ast.Constant)}
                if names & set(CORPORA) and "metric" not in ast.unparse(node):  # SPRSound's has its corpus' name
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")  # type: ignore[attr-defined]
    assert not wrong


# --- the whole way ---


@pytest.mark.slow
@pytest.mark.spec("O6")
def test_precompute_train_ensemble_and_submission(
    run: Run, settings: Settings, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUNGTUNE_STORE", str(tmp_path / "store"))
    code, _, err = run(
        "features", "build", "--dataset", DATASET, "--root", clips, "--feature", "phase9", "--workers", "0"
    )
    assert code == 0, err
    hashes = [trained(run, preset)[0]["hash"] for preset in MEMBERS]
    code, out, err = run("ensemble", *hashes, "--method", "softmax", "--by", "accuracy", "--json")
    assert code == 0, err
    made = json.loads(out)["ensemble"]
    results = ResultStore.open(settings.results)
    shares = {}
    for name in hashes:
        metrics = results.get(name).protocols["last"].validation  # type: ignore[union-attr]
        assert metrics is not None
        shares[name] = np.exp(metrics.accuracy / 100)
    weights = {member["hash"]: member["weight"] for member in made["members"]}
    assert weights == pytest.approx({name: share / sum(shares.values()) for name, share in shares.items()})
    out_file = tmp_path / "submissions" / "submission.csv"
    code, told, err = run("submission", "--ensemble", made["hash"][:8], "--root", clips, "--out", out_file)
    assert code == 0 and "20 clips" in told, err
    lines = out_file.read_text().splitlines()
    listed = (clips / "test.csv").read_text().split()
    assert lines[0] == "ID,Target" and [line.split(",")[0] for line in lines[1:]] == listed[1:]
    assert {line.split(",")[1] for line in lines[1:]} <= {"I", "E"}
    before = out_file.read_bytes()
    assert run("submission", "--ensemble", made["hash"], "--root", clips, "--out", out_file)[0] == 0
    assert out_file.read_bytes() == before


@pytest.mark.slow
def test_a_prediction_from_sound_is_the_one_of_the_stored_feature(run: Run, settings: Settings, clips: Path) -> None:
    (row,) = trained(run, "breathing_phase_cnn8")
    stored = ResultStore.open(settings.results).predictions(row["hash"]).to_pylist()
    asked = [one for one in stored if one["protocol"] == "validation"][:3]
    files = [clips / "train" / f"{one['cycle_id'].split('#')[0]}.wav" for one in asked]
    code, out, err = run("predict", row["hash"], *files, "--json")
    assert code == 0, err
    for document, one in zip(json.loads(out), asked, strict=True):
        wanted = 1 / (1 + np.exp(one["logits"][0] - one["logits"][1]))
        assert document["recording"]["probabilities"]["exhale"] == pytest.approx(wanted, abs=1e-3)


@pytest.mark.slow
def test_a_training_and_its_evaluation_are_told_by_accuracy(run: Run, settings: Settings) -> None:
    code, printed, told = run("train", "breathing_phase_cnn8", "--split", "grouped", *quick())
    assert code == 0 and "accuracy" in printed and "held-out accuracy" in told and "Score" not in printed + told
    (result,) = ResultStore.open(settings.results).iterate()
    last = result.epochs[-1]["validation"]
    assert f"held-out accuracy {last['accuracy']:.2f}" in told
    test = result.protocols["validation"].test
    assert f"{test.accuracy:.2f}" in printed
    code, printed, _ = run("evaluate", result.hash[:8])
    assert code == 0 and "accuracy" in printed and f"{test.accuracy:.2f}" in printed and "Score" not in printed
    rows = {row["protocol"]: row for row in json.loads(run("evaluate", result.hash[:8], "--json")[1])}
    assert rows["validation"]["metric"] == "accuracy"
    assert rows["validation"]["metrics"]["score"] == pytest.approx(test.accuracy)


@pytest.mark.slow
def test_the_sweep_registers_the_best_and_the_board_ranks_it(
    run: Run, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    from orchestrator.cli.leaderboard import show
    from orchestrator.cli.progress import Reporter, show_outcome
    from orchestrator.events import Event, FoldDone, TrialEnded
    from orchestrator.leaderboard.site.build import write_site
    from orchestrator.nightly.snapshot import standings
    from orchestrator.registry.registry import Registry
    from orchestrator.sweep.run import run_sweep

    content = read_yaml(ROOT / "search_spaces" / "breathing_phase.yaml")
    small = {
        "evaluation": {"split": "grouped-inner2", "metric": None},
        "promotion": {"seeds": [0, 1], "each_family": False},
        "search": {"trials": 2, "sampler": "random", "pruner": {"name": "none"}},
        "resources": {"cpus": 1, "gpus": 0},
    }
    content["families"].pop("vgg")  # which takes four times as long, to the same end
    content = override(merge(content, small), [f"base.{setting}" for setting in QUICK])
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        events: list[Event] = []
        outcome = run_sweep(SearchSpace.parse(content), settings, events.append)
    finally:
        ray.shutdown()
    assert {trial.state for trial in outcome.trials} == {"COMPLETE"}
    best = max(trial.value for trial in outcome.trials)
    results = {result.hash: result for result in ResultStore.open(settings.results).iterate()}
    searched = [r for r in results.values() if r.key.split == "grouped-inner2"]
    means = {
        config: np.mean([r.protocols["validation"].test.accuracy for r in searched if r.key.config_hash == config])
        for config in {r.key.config_hash for r in searched}
    }
    assert best == pytest.approx(max(means.values())), "what is maximised is the task's own, unless named"
    registered = outcome.finalists[0].registered
    assert registered is not None, [event for event in events if not isinstance(event, FoldDone | TrialEnded)]
    assert Registry.open(settings).find(f"{DATASET}-phase2@champion").version == registered.version
    assert_is_by_accuracy(registered, outcome.finalists[0].results)
    for event in events:
        Reporter()(event)
    show_outcome(outcome)
    printed = capsys.readouterr()
    folds = [event for event in events if isinstance(event, FoldDone)]
    assert len(folds) == 4 and all(f"accuracy {fold.fold_value:.2f}" in printed.err for fold in folds)
    assert "test side accuracy" in printed.err and "mean accuracy over folds" in printed.out
    assert "Score" not in printed.err + printed.out
    for command, said in (
        (["list"], f"{registered.score:.2f}"),
        (["show", "champion"], f"accuracy {registered.score:.2f}: there is no champion yet"),
        (["verify", "champion"], "cycles, accuracy"),
    ):
        code, told, _ = run("registry", *command)
        assert code == 0 and said in told and "accuracy" in told and "Score" not in told, told
    built, _ = write_site(settings, tmp_path / "site")
    show(built)
    printed = capsys.readouterr().out
    assert "Accuracy" in printed and "Score" not in printed
    assert {standing.metric for standing in standings(built).values()} == {"accuracy"}
    boards = json.loads((tmp_path / "site" / "leaderboard.json").read_text())["boards"]
    (board,) = [one for one in boards if one["data"]["split"] == "grouped"]
    assert board["data"]["dataset"] == DATASET and any(table["entries"] for table in board["tables"])


def assert_is_by_accuracy(version: Registered, results: list[FoldResult]) -> None:
    """The registered number, its interval and the seed of the weights are of accuracy, and not of the Score."""
    tests = [result.protocols["validation"].test for result in results]
    assert version.metric == "accuracy" and version.card is not None
    assert version.score == pytest.approx(np.mean([test.accuracy for test in tests]), abs=0.006)
    held_out = {result.key.seed: result.protocols["validation"].validation for result in results}
    best = max(held_out, key=lambda seed: (held_out[seed].accuracy, -seed))  # type: ignore[union-attr]
    assert version.card.weights_seed == best
    assert version.card.score.low is not None and version.card.score.low <= version.score


# --- the submission's rows ---


@pytest.mark.spec("N3")
def test_rows_stand_in_the_order_of_the_contests_list_byte_for_byte(clips: Path) -> None:
    contest = open_corpus(DATASET, clips).contest()
    exhaled = {name: number % 3 == 0 for number, (name, _) in enumerate(contest.clips)}
    said = {name: np.array([0.2, 0.8]) if exhaled[name] else np.array([0.5, 0.5]) for name in reversed(list(exhaled))}
    template = "".join(f"{name},{'E' if exhaled[name] else 'I'}\n" for name, _ in contest.clips)
    assert submission(contest, "phase2", said) == f"ID,Target\n{template}", "0.5 is not above the threshold"


@pytest.mark.spec("N2")
def test_a_submission_is_the_weighted_mean_of_the_members() -> None:
    one, two = ({"a": np.array([p, 1 - p]), "b": np.array([1 - p, p])} for p in (0.9, 0.2))
    mean = weighted([one, two], [0.4965, 0.5035])
    assert mean["a"] == pytest.approx([0.4965 * 0.9 + 0.5035 * 0.2, 0.4965 * 0.1 + 0.5035 * 0.8])
    assert list(mean) == ["a", "b"]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"a": np.array([0.5, 0.5])}, "its clips are not those of member 1: b"),
        ({"a": np.array([0.5, 0.5]), "c": np.array([0.5, 0.5])}, "its clips are not those of member 1"),
        ({"a": np.array([0.5, 0.5]), "b": np.array([1.0])}, "of clip b do not fit"),
        ({"a": np.array([np.nan, 0.5]), "b": np.array([0.5, 0.5])}, "of clip a do not fit"),
    ],
)
def test_probability_rows_that_differ_are_refused(other: dict[str, np.ndarray], told: str) -> None:
    first = {"a": np.array([0.5, 0.5]), "b": np.array([0.5, 0.5])}
    with pytest.raises(UserError, match=told) as caught:
        weighted([first, other], [1, 1])
    assert caught.value.where == "member 2"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give models, or --ensemble HASH"),
        (("aaaa", "--ensemble", "bbbb"), "give models, or --ensemble HASH"),
        (("--ensemble", "bbbb"), "no ensemble begins with 'bbbb'"),
        (("aaaa",), "no result begins with 'aaaa'"),
    ],
)
def test_a_submission_of_nothing_is_refused(run: Run, clips: Path, arguments: tuple[str, ...], told: str) -> None:
    code, _, err = run("submission", *arguments, "--root", clips)
    assert code == 2 and told in err
