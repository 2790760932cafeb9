"""The board's files: the same rows everywhere, the same bytes every time, and a page that needs nothing else."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from leaderboard_results import RECIPES, Side, five_fold, fold_result, publish, realistic
from typer.testing import CliRunner

from feature_store.errors import UserError
from orchestrator.cli.leaderboard import app
from orchestrator.leaderboard import figures
from orchestrator.leaderboard.collect import build_board
from orchestrator.leaderboard.render import CSV, JSON, MARKDOWN, PAGE, to_html, write
from orchestrator.leaderboard.schema import Leaderboard
from orchestrator.leaderboard.tabular import COLUMNS
from workers.results import PREDICTIONS, ResultStore

DOCS = Path(__file__).resolve().parents[2] / "docs" / "leaderboard.md"
NOON, LATER = "2026-03-02T12:00:00+00:00", "2026-03-02T13:37:00+00:00"
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Outline(HTMLParser):
    """Checks that tags are balanced and gathers ids, links and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.ids += [str(named["id"])] if "id" in named else []
        self.targets += [str(named[key]) for key in ("href", "src", "aria-controls", "aria-labelledby") if key in named]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    folder = tmp_path_factory.mktemp("results")
    five_fold(folder)
    return realistic(folder)


@pytest.fixture(scope="module")
def board(store: ResultStore) -> Leaderboard:
    champion = {RECIPES[2].config_hash: {"name": "icbhi-lungsound4", "version": "3", "alias": "champion"}}
    return build_board(store, champion, generated=NOON, resamples=1_000)


@pytest.fixture(scope="module")
def site(board: Leaderboard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "deeper"
    places = write(board, folder)
    assert set(places) == {JSON, CSV, MARKDOWN, PAGE}
    return folder


def test_a_second_build_gives_the_same_bytes(store: ResultStore, site: Path, tmp_path: Path):
    champion = {RECIPES[2].config_hash: {"name": "icbhi-lungsound4", "version": "3", "alias": "champion"}}
    write(build_board(store, champion, generated=LATER, resamples=1_000), tmp_path)
    for name in (JSON, CSV, MARKDOWN, PAGE):
        before, after = (site / name).read_text(), (tmp_path / name).read_text()
        assert before.replace(NOON[:16], "").replace("2026-03-02 12:00", "") == after.replace(LATER[:16], "").replace(
            "2026-03-02 13:37", ""
        )
    assert (site / CSV).read_bytes() == (tmp_path / CSV).read_bytes()


def test_json_follows_its_schema(board: Leaderboard, site: Path):
    content = json.loads((site / JSON).read_text())
    assert content["schema"] == 1
    again = Leaderboard.model_validate(content)
    assert [b.id for b in again.boards] == [b.id for b in board.boards]
    assert again.boards[0].tables[0].entries[0].numbers.score.mean == pytest.approx(
        board.boards[0].tables[0].entries[0].numbers.score.mean, abs=1e-6
    )
    configs = [entry["config"] for entry in content["boards"][0]["tables"][0]["entries"]]
    assert all(recipe.config in configs for recipe in RECIPES)


def test_csv_holds_every_entry_under_documented_headers(board: Leaderboard, site: Path):
    rows = list(csv.DictReader(io.StringIO((site / CSV).read_text())))
    entries = [
        (table.protocol, entry)
        for b in board.boards
        for table in b.tables
        for entry in (*table.entries, *table.incomplete)
    ]
    assert list(rows[0]) == COLUMNS
    assert len(rows) == len(entries) == 15
    for row, (protocol, entry) in zip(rows, entries, strict=True):
        assert (row["protocol"], row["config_hash"]) == (protocol, entry.config_hash)
        assert row["rank"] == (str(entry.rank) if entry.rank else "")
        assert row["score"] == (f"{entry.numbers.score.mean:.4f}" if entry.numbers else "")
        assert row["recordings"] == "199"
    assert {row["status"] for row in rows} == {"ranked", "incomplete"}
    documented = set(re.findall(r"`([a-z0-9_]+)`", DOCS.read_text()))
    assert set(COLUMNS) <= documented


def test_markdown_has_the_same_rows(board: Leaderboard, site: Path):
    text = (site / MARKDOWN).read_text()
    for b in board.boards:
        for table in b.tables:
            for entry in table.entries:
                line = next(
                    line
                    for line in text.splitlines()
                    if line.startswith(f"| {entry.rank}") and f"**{entry.numbers.score.mean:.1f}**" in line
                )
                assert entry.model.label in line
                assert f"`{entry.config_hash[:8]}`" in line
    assert "4 of 5 folds done" in text
    assert "199 of 920 recordings" in text
    widths = {}
    for line in text.splitlines():  # every row of a table has as many cells as its head
        if not line.startswith("|"):
            widths = {}
        else:
            widths[len(re.findall(r"(?<!\\)\|", line))] = line
        assert len(widths) <= 1, widths


def test_page_needs_no_network_and_its_links_lead_somewhere(board: Leaderboard, site: Path):
    page = (site / PAGE).read_text()
    outline = Outline(page)
    assert len(outline.ids) == len(set(outline.ids))
    for target in outline.targets:
        if target.startswith("#"):
            assert target[1:] in outline.ids
        else:
            assert target.startswith("data:") or target in {JSON, CSV, MARKDOWN} or target in outline.ids
    assert re.findall(r"(?:https?:)?//[a-z]", page.replace("http://www.w3.org/2000/svg", "")) == []


def test_page_shows_what_a_reader_asks(board: Leaderboard, site: Path):
    page = (site / PAGE).read_text()
    text = " ".join(Outline(page).text.split())
    for b in board.boards:
        for table in b.tables:
            for entry in table.entries:
                assert f'id="{entry.id}"' in page
                assert f"{entry.numbers.score.low:.1f} – {entry.numbers.score.high:.1f}" in text
    for words in (
        "Partial database: 199 of 920 recordings",
        "paper habit, not comparable",
        "4 of 5 folds done",
        "champion",
        "batch_size: 8",
        "1f2e3d4c5b6a",
        "lungtune sweep search_spaces/icbhi_cpu.yaml",
        "Patients 156, 218 are on both sides",
        "As published",
        "read 13 times",
    ):
        assert words in text, words
    assert page.count("<polyline") >= 3 * 11  # a curve a training of every ranked entry of the official split


def test_page_escapes_what_it_is_given(tmp_path: Path):
    store = ResultStore.open(str(tmp_path))
    result, predictions = fold_result(RECIPES[2], Side(), 0, 0)
    evil = "<script>alert(1)</script>|x"
    provenance = result.provenance.model_copy(update={"command": evil})
    config = json.loads(json.dumps(result.config))
    config["model"]["pretrained"]["file"] = evil
    store.publish(result.model_copy(update={"provenance": provenance, "config": config}), {PREDICTIONS: predictions})
    built = build_board(store, resamples=50)
    page = to_html(built)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    Outline(page)


def test_an_empty_board_says_what_to_run(tmp_path: Path):
    built = build_board(ResultStore.open(str(tmp_path / "none")), generated=NOON)
    places = write(built, tmp_path / "site")
    page = Path(places[PAGE].removeprefix("file://")).read_text()
    assert "lungtune demo" in Outline(page).text
    assert "lungtune demo" in (tmp_path / "site" / MARKDOWN).read_text()
    assert (tmp_path / "site" / CSV).read_text() == ",".join(COLUMNS) + "\n"


def test_a_place_that_cannot_be_written_is_named(board: Leaderboard, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot be written") as raised:
        write(board, tmp_path / "file")
    assert raised.value.hint
    assert (tmp_path / "file").read_text() == "mine"


def test_other_files_of_the_folder_stay(board: Leaderboard, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / PAGE).write_text("old")
    write(board, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([JSON, CSV, MARKDOWN, PAGE, "notes.txt"])
    assert (tmp_path / PAGE).read_text() != "old"


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


def test_command_on_an_empty_store_is_no_error(tmp_path: Path):
    ran = CliRunner().invoke(app, ["build", "--out", str(tmp_path / "site")], env={"LUNGTUNE_HOME": str(tmp_path)})
    assert ran.exit_code == 0, ran.output
    assert "No complete entry yet" in ran.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site"]  # no database was made in passing


@pytest.mark.parametrize("values", [[50, 57.3, 61.2], [49.9, 50.1], [0, 100], [55.0]])
def test_axes_are_round_and_hold_their_values(values: list[float]):
    axis = figures.linear_axis(values)
    assert axis.low <= min(values) <= max(values) <= axis.high
    assert [at for at, _ in axis.ticks] == sorted({at for at, _ in axis.ticks})
    assert (axis.ticks[0][0], axis.ticks[-1][0]) == (0, 100)
    assert 3 <= len(axis.ticks) <= 12
    for at, text in axis.ticks:
        assert axis.place(float(text)) == pytest.approx(at, abs=0.01)


@pytest.mark.parametrize(
    ("count", "text"),
    [(993_485, "993 k"), (87_800_000, "87.8 M"), (999_950, "1 M"), (512, "512"), (1_000, "1 k"), (2.5e9, "2.5 G")],
)
def test_short_counts(count: float, text: str):
    assert figures.short_count(count) == text


def test_forest_and_scatter_hold_every_entry(board: Leaderboard):
    table = next(t for t in board.boards[0].tables if t.protocol == "last")
    tree, cloud = figures.forest(table.entries), figures.scatter(table.entries)
    assert [m.id for m in tree.marks] == [e.id for e in table.entries] == [m.id for m in cloud.marks]
    for mark in (*tree.marks, *cloud.marks):
        assert 0 <= mark.low < mark.at < mark.high <= 100
    by_size = sorted(cloud.marks, key=lambda mark: mark.x)
    sizes = {entry.id: entry.model.parameters for entry in table.entries}
    assert [sizes[mark.id] for mark in by_size] == sorted(sizes.values())
    assert figures.forest(table.entries[:1]) is None
    assert figures.scatter(table.entries[:1]) is None
