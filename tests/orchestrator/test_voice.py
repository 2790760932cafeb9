"""The voice contest from its folders to a submission: store, two members, their ensemble, and the file that is sent."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from safetensors.torch import save
from sklearn.metrics import recall_score

from feature_store.build import build
from feature_store.datasets import open_corpus
from feature_store.datasets.base import Contest
from feature_store.errors import UserError
from feature_store.features import resolve_feature
from feature_store.recording_tables import encode_cells
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from orchestrator.contest import submission, weighted
from orchestrator.registry.card.build_card import make_card
from orchestrator.registry.package import CARD_PAGE, save_model
from search_spaces.overrides import merge
from search_spaces.presets import load_preset
from tests.conftest import Run
from tests.support.tiny_sweep import TINY_CONFIG
from tests.support.voice_clips import write_rows, write_voices
from workers.config import ExperimentConfig
from workers.evaluation import evaluate
from workers.fold import FoldRun, Site, run_fold
from workers.inference import SoundModel, write_model
from workers.models import build_model
from workers.optimisation import build_optimizer
from workers.results import WEIGHTS, FoldResult, ResultStore

pytestmark = pytest.mark.slow

NAME, MEMBERS = "aicup-voice", (13, 50)


def member(size: int, **training: Any) -> ExperimentConfig:
    """A member's preset, trained for four epochs."""
    few = {"training": {"epochs": 4, "batch_size": 8, **training}}
    return ExperimentConfig.parse(merge(load_preset(f"aicup_voice_mfcc{size}"), few))


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_voices(tmp_path_factory.mktemp("voices"), count=60, tested=6)


@pytest.fixture(scope="module")
def trained(voices: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, list[FoldResult]]:
    """A home with both members' features and their fold runs on the first fold."""
    home = Settings.load(tmp_path_factory.mktemp("home"))
    store = FeatureStore.open(home.store, create=True)
    for size in MEMBERS:
        build(open_corpus(NAME, voices), resolve_feature(f"voice-mfcc{size}"), store, workers=0)
    site = Site(home.store, home.results, str(home.cache), str(home.weights), device="cpu")
    return home, [run_fold(FoldRun(member(size), "first-fold", 0, 0), site) for size in MEMBERS]


@pytest.fixture
def settings(trained: tuple[Settings, list[FoldResult]], tmp_path: Path) -> Settings:
    """What `run` takes: the trained home."""
    return replace(trained[0])


@pytest.mark.spec("T11")
def test_the_epoch_kept_is_the_first_with_the_highest_recall_of_held_out_voices(
    trained: tuple[Settings, list[FoldResult]],
) -> None:
    for result in trained[1]:
        assert result.model["parameters"] == 444_261
        chosen = result.protocols["validation"]
        assert chosen.validation is not None and result.config["training"]["protocol"] == "validation"
        seen = [record["validation"]["uar"] for record in result.epochs]
        assert chosen.validation.uar == pytest.approx(max(seen))
        assert chosen.epoch == 1 + int(np.argmax(seen))


@pytest.mark.spec("E5")
def test_uar_is_the_mean_recall() -> None:
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(5, size=200), rng.normal(size=(200, 5))
    wanted = 100 * recall_score(labels, logits.argmax(axis=1), average="macro")
    metrics = evaluate(logits, labels)
    assert metrics.uar == pytest.approx(wanted) and metrics.value("uar") == metrics.uar


@pytest.mark.spec("T1")
def test_plain_gradient_descent_has_decay_and_no_momentum() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = build_optimizer(member(13).optim, [weight], "cpu")
    for _ in range(2):
        weight.grad = torch.full((1,), 2.0)
        optimizer.step()
    first = 1 - 0.01 * (2 + 1e-4)
    assert weight.item() == pytest.approx(first - 0.01 * (2 + 1e-4 * first))


def test_the_ensemble_of_the_members_writes_the_contests_file(
    run: Run, trained: tuple[Settings, list[FoldResult]], voices: Path, tmp_path: Path
) -> None:
    home, results = trained
    hashes = [result.hash for result in results]
    code, _, told = run("ensemble", *hashes, "--method", "mean", "--protocol", "validation")
    assert code == 0, told
    (stored,) = [path.name for path in (Path(home.results) / "ensembles").iterdir()]
    out = tmp_path / "submission.csv"
    code, _, told = run("submission", "--ensemble", stored, "--root", voices, "--dataset", NAME, "--out", out)
    assert code == 0, told

    contest = open_corpus(NAME, voices).contest()
    members = [opened(home, result, tmp_path / result.hash[:6]) for result in results]
    said = [
        np.mean([one.predict(audio, table=contest.tables[name]).probabilities for one in members], axis=0)
        for name, audio in contest.clips
    ]
    wanted = "".join(
        f"{name},{'51234'[int(row.argmax())]}\r\n" for (name, _), row in zip(contest.clips, said, strict=True)
    )
    assert out.read_bytes() == wanted.encode()


def test_a_voice_without_its_medical_numbers_is_refused(
    trained: tuple[Settings, list[FoldResult]], voices: Path, tmp_path: Path
) -> None:
    model = opened(trained[0], trained[1][0], tmp_path / "model")
    _, audio = open_corpus(NAME, voices).contest().clips[0]
    with pytest.raises(UserError, match="takes 44 numbers beside each sound, and there are 0"):
        model.predict(audio)


# --- the medical table of a prediction ---


@pytest.fixture
def listed(voices: Path) -> tuple[Path, list[Path]]:
    """The contest's public list, and its clips."""
    folder = voices / "Public_Testing_Dataset"
    return folder / "test_datalist_public.csv", sorted((folder / "test_data_public").glob("*.wav"))


def test_a_prediction_takes_the_contests_list_and_says_what_the_submission_says(
    run: Run, trained: tuple[Settings, list[FoldResult]], voices: Path, listed: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    name = trained[1][0].hash
    code, printed, told = run("predict", name, *listed[1], "--table", listed[0], "--json")
    assert code == 0, told
    model, contest = opened(trained[0], trained[1][0], tmp_path / "model"), open_corpus(NAME, voices).contest()
    assert len(listed[1]) == 3
    for audio, document in zip(listed[1], json.loads(printed), strict=True):
        wanted = model.predict(audio, table=contest.tables[audio.stem]).probabilities
        assert list(document["recording"]["probabilities"].values()) == pytest.approx(wanted.tolist(), abs=1e-6)
        other = model.predict(audio, table=np.roll(contest.tables[audio.stem], 1).tolist()).probabilities
        assert not np.allclose(wanted, other, atol=1e-6), "the numbers beside the sound are heard"


def test_what_is_wrong_with_the_list_is_told(
    run: Run, trained: tuple[Settings, list[FoldResult]], listed: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    name, (table, clips) = trained[1][0].hash, listed
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))

    def changed(file: str, columns: list[str] | None = None, **cells: str) -> str:
        edited = [{**rows[0], **{key.replace("_", " "): cell for key, cell in cells.items()}}, *rows[1:]]
        write_rows(tmp_path / file, columns or list(rows[0]), edited)
        return str(tmp_path / file)

    code, printed, told = run("predict", name, clips[0])
    assert code == 2 and "the model takes 44 numbers beside each sound" in told and "--table CSV" in told
    lacking = changed("lacking.csv", [column for column in rows[0] if column != "Smoking"])
    code, _, told = run("predict", name, clips[0], "--table", lacking)
    assert code == 2 and "lacking.csv: has no column 'Smoking'" in told
    twice = changed("twice.csv", ID=rows[1]["ID"])
    code, _, told = run("predict", name, clips[0], "--table", twice)
    assert code == 2 and "twice.csv:3: '" in told and "appears twice" in told
    code, printed, told = run("predict", name, *clips, "--table", changed("smoke.csv", Smoking="7"), "--json")
    assert code == 1 and "smoke.csv:2: 'Smoking' is '7', which is no code of 0 to 3" in told
    assert ["error" in document for document in json.loads(printed)] == [True, False, False], "the rest is done"
    code, printed, told = run("predict", name, *clips, "--table", changed("other.csv", ID="0Azzzzz"), "--json")
    assert code == 1 and f"{clips[0].name}: has no row in" in told and f"add one of '{clips[0].stem}'" in told


def test_a_packed_model_takes_the_row_s_cells(
    trained: tuple[Settings, list[FoldResult]],
    voices: Path,
    listed: tuple[Path, list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As `mlflow models serve` gets it from JSON: text or numbers by the contest's columns."""
    home, (result, _) = trained
    results, config = ResultStore.open(home.results), ExperimentConfig.model_validate(result.config)
    save_model(tmp_path / "model", config, make_card("voice", config, [result], results), results)
    monkeypatch.setenv("LUNGTUNE_SERVE_PATHS", str(listed[1][0].parent))
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert model.metadata.signature.inputs.input_names()[-1] == "table"
    assert "recording.wav --table list.csv" in (tmp_path / "model" / CARD_PAGE).read_text()
    with listed[0].open(newline="") as file:
        row = next(csv.DictReader(file))
    audio = next(path for path in listed[1] if path.stem == row["ID"])
    cells = {column: float(cell) if column == "Age" else cell for column, cell in row.items()}
    said = model.predict(pd.DataFrame({"path": [str(audio)], "table": [cells]}))
    contest = open_corpus(NAME, voices).contest()
    wanted = opened(home, result, tmp_path / "alone").predict(audio, table=contest.tables[row["ID"]]).probabilities
    whole = said[said["level"] == "recording"][result.data.classes].to_numpy()[0]
    assert whole == pytest.approx(wanted, abs=1e-6)
    for table, told in (
        (None, "row 0: the model takes 44 numbers beside each sound"),
        ({key: cell for key, cell in cells.items() if key != "Sex"}, "row 0, table: has no column 'Sex'"),
        ({**cells, "frequency": "often"}, "row 0, table: 'frequency' is 'often', which is no code of 0 to 3"),
    ):
        with pytest.raises(MlflowException, match=told):
            model.predict(pd.DataFrame({"path": [str(audio)], "table": [table]}))
    rows = pd.DataFrame({"path": [str(audio)] * 2, "start": [0.0, 0.5], "end": [0.5, 1.0], "table": [cells, cells]})
    assert (model.predict(rows)["level"] == "cycle").sum() == 2
    rows.at[1, "table"] = {**cells, "Age": 20}
    with pytest.raises(MlflowException, match="appears in several rows with another table"):
        model.predict(rows)


def test_a_table_of_a_corpus_that_has_none_is_told() -> None:
    with pytest.raises(UserError, match="recordings of 'icbhi' have no table"):
        encode_cells("icbhi", {}, "row 0")


def test_a_model_that_hears_the_sound_alone_takes_no_list(
    run: Run, trained: tuple[Settings, list[FoldResult]], listed: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    config = ExperimentConfig.parse(TINY_CONFIG)
    weights = save(build_model(config.model, config.feature.shape, 4).state_dict())
    write_model(tmp_path / "alone", config, ["normal", "crackle", "wheeze", "both"], weights)
    code, _, told = run("predict", tmp_path / "alone", listed[1][0], "--table", listed[0])
    assert code == 2 and "the model hears the sound alone" in told
    assert run("predict", tmp_path / "alone", listed[1][0])[0] == 0


# --- submissions ---


@pytest.mark.spec("N3")
def test_a_submission_keeps_the_templates_order_and_has_no_header() -> None:
    clips = tuple((name, Path(name)) for name in ("b", "a", "c"))
    codes = {"voice5": ("5", "1", "2", "3", "4")}
    contest = Contest(columns=None, clips=clips, codes=codes, line_end="\r\n")
    rows = {name: np.eye(5)[number] for name, number in (("a", 4), ("b", 0), ("c", 1))}
    assert submission(contest, "voice5", rows) == "b,5\r\na,4\r\nc,1\r\n"


@pytest.mark.spec("N1")
def test_five_members_arrays_make_the_submission_of_their_sum() -> None:
    rng = np.random.default_rng(1)
    arrays = rng.dirichlet(np.ones(5), size=(5, 1000)).astype(np.float32)  # members, clips, classes
    names = [f"{n:04d}" for n in range(1000)]
    members = [dict(zip(names, array, strict=True)) for array in arrays]
    contest = Contest(columns=None, clips=tuple((n, Path(n)) for n in names), codes={"t": tuple("12345")})
    wanted = arrays.astype(np.float64).sum(axis=0).argmax(axis=1) + 1
    lines = submission(contest, "t", weighted(members, [1.0] * 5)).splitlines()
    assert lines == [f"{name},{code}" for name, code in zip(names, wanted, strict=True)]


@pytest.mark.parametrize("change", ({"x": np.ones(5)}, {"a": np.ones(4)}, {"a": np.full(5, np.nan)}))
def test_members_whose_rows_differ_are_refused(change: dict[str, np.ndarray]) -> None:
    with pytest.raises(UserError, match="member 2"):
        weighted([{"a": np.ones(5)}, {"a": np.ones(5), **change}], [1.0, 1.0])


def opened(home: Settings, result: FoldResult, folder: Path) -> SoundModel:
    """A fold run's own weights."""
    weights = ResultStore.open(home.results).read(result.hash, WEIGHTS)
    config = ExperimentConfig.model_validate(result.config)
    write_model(folder, config, result.data.classes, weights)
    return SoundModel(folder, device="cpu")
