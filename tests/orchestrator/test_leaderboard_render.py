"""The board's files: the same rows everywhere, and the same bytes every time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from orchestrator.cli.leaderboard import app
from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.columns import csv_columns
from orchestrator.leaderboard.entry_documents import Details
from orchestrator.leaderboard.schema import SCHEMA as SCHEMA_VERSION
from orchestrator.leaderboard.schema import BoardDetail, EntryDetail, Leaderboard
from orchestrator.leaderboard.site.folder import INDEX
from orchestrator.leaderboard.site.write import COMPARE, CSV, JSON, MARKDOWN, PAGE, SCHEMA, write
from tests.support.leaderboard_boards import NOON, marked_board
from tests.support.leaderboard_results import RECIPES, Side, publish, with_folds
from workers.results import ResultStore

pytestmark = pytest.mark.slow

HEADERS = [column.key for column in csv_columns()]
LATER = "2026-03-02T13:37:00+00:00"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    return with_folds(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def board(store: ResultStore) -> Leaderboard:
    return marked_board(store)


@pytest.fixture(scope="module")
def site(board: Leaderboard, store: ResultStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "deeper"
    places = write(board, folder, Details(board, store))
    assert set(places) == {JSON, CSV, MARKDOWN, SCHEMA, COMPARE, PAGE}
    return folder


def test_a_second_build_gives_the_same_bytes(store: ResultStore, site: Path, tmp_path: Path):
    again = marked_board(store, LATER)
    write(again, tmp_path, Details(again, store))
    names = sorted(path.relative_to(site) for path in site.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    timed = [Path(name) for name in (JSON, MARKDOWN, PAGE)]
    for name in names:
        if name in timed:
            before, after = (site / name).read_text(), (tmp_path / name).read_text()
            assert before.replace(NOON[:16], "").replace("2026-03-02 12:00", "") == after.replace(
                LATER[:16], ""
            ).replace("2026-03-02 13:37", "")
        elif name != Path(INDEX):  # which holds the hashes of those
            assert (site / name).read_bytes() == (tmp_path / name).read_bytes()


def test_json_follows_its_schema(board: Leaderboard, site: Path):
    content = json.loads((site / JSON).read_text())
    assert content["schema"] == SCHEMA_VERSION
    again = Leaderboard.model_validate(content)
    assert [b.id for b in again.boards] == [b.id for b in board.boards]
    assert again.boards[0].tables[0].entries[0].numbers.score.mean == pytest.approx(
        board.boards[0].tables[0].entries[0].numbers.score.mean, abs=1e-6
    )
    schemas = json.loads((site / SCHEMA).read_text())
    assert set(content) == set(schemas[JSON]["properties"])


def test_every_entry_and_board_has_a_document_of_its_own(board: Leaderboard, site: Path):
    schemas = json.loads((site / SCHEMA).read_text())
    for b in board.boards:
        cycles = BoardDetail.model_validate_json((site / "boards" / f"{b.id}.json").read_text())
        for table in b.tables:
            for entry in (*table.entries, *table.incomplete):
                content = json.loads((site / "entries" / f"{entry.id}.json").read_text())
                assert set(content) == set(schemas["entries/<id>.json"]["properties"])
                detail = EntryDetail.model_validate(content)
                assert detail.config in [recipe.config for recipe in RECIPES]
                if entry.rank:
                    assert len(detail.predicted) == len(detail.labels) == len(cycles.cycle_ids)
                    assert detail.cycles_hash == cycles.cycles_hash


def test_the_config_beside_a_page_is_the_one_that_was_trained(board: Leaderboard, site: Path):
    for entry in board.boards[0].tables[0].entries:
        config = yaml.safe_load((site / "entries" / f"{entry.id}.yaml").read_text())
        assert config in [recipe.config for recipe in RECIPES if recipe.config_hash == entry.config_hash]


def test_an_empty_board_says_what_to_run(tmp_path: Path):
    store = ResultStore.open(str(tmp_path / "none"))
    built = build_board(store, generated=NOON)
    write(built, tmp_path / "site", Details(built, store))
    assert "lungtune demo" in (tmp_path / "site" / PAGE).read_text()
    assert "lungtune demo" in (tmp_path / "site" / MARKDOWN).read_text()
    assert (tmp_path / "site" / CSV).read_text() == ",".join(HEADERS) + "\n"


def test_command_writes_the_site_and_prints_the_leading_rows(tmp_path: Path):
    store = ResultStore.open(str(tmp_path / "results"))
    publish(store, RECIPES[2], Side(), seeds=[0, 1])
    publish(store, RECIPES[4], Side(), seeds=[0])
    arguments = ["build", "--out", str(tmp_path / "site"), "--results", str(tmp_path / "results")]
    home = {"LUNGTUNE_HOME": str(tmp_path / "home"), "COLUMNS": "160"}
    ran = CliRunner().invoke(app, arguments, env=home)
    assert ran.exit_code == 0, ran.output
    assert "MobileNet mn04" in ran.stdout
    assert ran.stdout.rstrip().endswith("index.html")
    ran = CliRunner().invoke(app, [*arguments, "--json"], env=home)
    content = json.loads(ran.stdout)
    assert content["results"] == 3
    assert [t["protocol"] for t in content["boards"][0]["tables"]] == ["validation", "last"]
    assert [e["rank"] for e in content["boards"][0]["tables"][0]["entries"]] == [1, 2]
    assert set(content["files"]) == {JSON, CSV, MARKDOWN, SCHEMA, COMPARE, PAGE}


def test_command_on_an_empty_store_is_no_error(tmp_path: Path):
    ran = CliRunner().invoke(app, ["build", "--out", str(tmp_path / "site")], env={"LUNGTUNE_HOME": str(tmp_path)})
    assert ran.exit_code == 0, ran.output
    assert "No complete entry yet" in ran.stdout
    assert not (tmp_path / "mlflow.db").exists()  # no database was made in passing
