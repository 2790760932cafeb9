"""The pages as HTML: what they say, where their links lead, and that nothing from the data becomes markup."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from orchestrator.leaderboard.board import build_board
from orchestrator.leaderboard.entry_documents import Details
from orchestrator.leaderboard.exports import FACTS
from orchestrator.leaderboard.schema import ChampionChange, Leaderboard
from orchestrator.leaderboard.site.pages import DATA, FIRST_ROWS, config_text, index_page, reproduce
from orchestrator.leaderboard.site.spectrograms import HEIGHT, WIDTH, picture
from orchestrator.leaderboard.site.write import PAGE, write
from tests.support.leaderboard_boards import NOON, marked_board
from tests.support.leaderboard_results import PHASE, RECIPES, VOICE, Side, fold_result, publish, with_folds
from workers.config import ExperimentConfig
from workers.results import PREDICTIONS, ResultStore

pytestmark = pytest.mark.slow

VOID = {"meta", "link", "br", "img", "input", "hr"}
EVIL = "<script>alert(1)</script>|x\"'&"


class Outline(HTMLParser):
    """Checks that tags are balanced and gathers ids, links and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.attributes: set[str] = set()
        self.inline_scripts = 0
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.attributes |= set(named)
        self.ids += [str(named["id"])] if "id" in named else []
        self.targets += [str(named[key]) for key in ("href", "src", "aria-controls", "aria-labelledby") if key in named]
        self.inline_scripts += tag in ("script", "style") and "src" not in named
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def text_of(path: Path) -> str:
    return " ".join(Outline(path.read_text()).text.split())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    return with_folds(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def board(store: ResultStore) -> Leaderboard:
    built = marked_board(store)
    entry = built.boards[0].tables[0].entries[0]
    built.champions = [
        ChampionChange(model="icbhi", version="1", when="2026-02-01T03:00:00+00:00", reason="the first", score=51.0),
        ChampionChange(model="icbhi", version="3", when=NOON, reason="better by 2.5", score=53.5, entry=entry.id),
    ]
    return built


@pytest.fixture(scope="module")
def site(board: Leaderboard, store: ResultStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    run = {RECIPES[2].config_hash: "https://mlflow.example/#/experiments/1/runs/abc"}
    write(board, folder, Details(board, store), runs=run)
    return folder


def test_pages_need_no_network_and_all_links_lead_somewhere(site: Path):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 15
    outlines = {page: Outline(page.read_text()) for page in pages}
    for page, outline in outlines.items():
        assert len(outline.ids) == len(set(outline.ids)), page
        for target in outline.targets:
            if target.startswith("data:") or target.startswith("https://mlflow.example"):
                continue
            path, _, anchor = target.partition("#")
            if path == "" or target in outline.ids:
                assert (anchor or target) in outline.ids, (page, target)
                continue
            found = (page.parent / path).resolve()
            assert found.is_file(), (page, target)
            if anchor and found.suffix == ".html" and found.name != "compare.html":
                assert anchor in outlines[found].ids, (page, target)
    for file in [*pages, *site.glob("assets/*")]:
        text = file.read_text().replace("http://www.w3.org/2000/svg", "").replace("https://mlflow.example", "")
        assert re.findall(r"(?:https?:)?//[a-z]+\.", text) == [], file


def test_pages_run_under_a_policy_that_refuses_inline_code(site: Path):
    for page in site.rglob("*.html"):
        outline = Outline(page.read_text())
        assert "Content-Security-Policy" in page.read_text()
        assert "unsafe" not in page.read_text()
        assert outline.inline_scripts == 0
        assert not {name for name in outline.attributes if name.startswith("on") or name == "style"}


def test_the_index_shows_every_ranking_and_why_others_are_not_ranked(board: Leaderboard, site: Path):
    text = text_of(site / PAGE)
    for b in board.boards:
        for table in b.tables:
            for entry in table.entries:
                assert f'href="entries/{entry.id}.html"' in (site / PAGE).read_text()
                assert f"{entry.numbers.score.low:.1f} – {entry.numbers.score.high:.1f}" in text
    for words in (
        "Partial database: 199 of 920 recordings",
        "paper habit, not comparable",
        "4 of 5 folds done",
        "champion",
        "As their papers state them",
        "History of the champion",
        "better by 2.5",
    ):
        assert words in text, words


def test_the_published_table_stands_apart_with_its_flags(board: Leaderboard, site: Path):
    page = (site / PAGE).read_text()
    section = page[page.index('id="published"') :]
    rows = re.findall(r'<tr data-split="([^"]+)" data-metric="([^"]+)" data-selection="([^"]+)"', section)
    assert sorted(rows) == sorted((row.split, row.metric, row.selection) for row in board.published)
    assert 'class="ranking"' not in section
    for column, values in board.published_flags.items():
        assert column in section
        assert all(meaning.split("<")[0][:20] in Outline(page).text for meaning in values.values())


def published_tables(page: str) -> list[tuple[list[str], set[str]]]:
    """Of every table of published results the columns up to how the epoch was chosen, and its rows' corpora."""
    section = page[page.index('id="published"') :]
    found = []
    for table in re.findall(r"<table.*?</table>", section, re.DOTALL):
        heads = re.findall(r"<th scope=\"col\".*?<button[^>]*>([^<]*)</button>", table)
        found.append((heads[: heads.index("Selection")], set(re.findall(r'data-dataset="([^"]+)"', table))))
    return found


def test_an_accuracy_of_a_paper_stands_in_no_column_of_scores(site: Path, tmp_path: Path):
    score = (["Method", "Year", "Score", "Sp", "Se"], {"icbhi"})
    assert published_tables((site / PAGE).read_text()) == [score]
    store = ResultStore.open(str(tmp_path))
    publish(store, RECIPES[2], PHASE, seeds=[0])
    accuracy = (["Method", "Year", "Accuracy"], {"breathing-phase"})
    page = index_page(build_board(store, resamples=50))
    assert published_tables(page) == [accuracy]
    text = " ".join(Outline(page).text.split())
    assert "breathing-phase · phase2 Published results" in text
    assert "CNN8 + VGG (Lim and Won)" in text and "single clips drawn at random" in text
    assert "Patch-Mix" not in text and "icbhi2" not in text and "Most chose on the test set" not in text
    publish(store, RECIPES[2], VOICE, range(4), [0])
    publish(store, RECIPES[2], Side(), seeds=[0])
    page = index_page(build_board(store, resamples=50))
    assert published_tables(page) == [score, accuracy, (["Method", "Year", "UAR"], {"aicup-voice"})]
    text = " ".join(Outline(page).text.split())
    for words in (
        "icbhi · lungsound4 Most chose",
        "breathing-phase · phase2 The figures",
        "aicup-voice · voice5 A contest",
    ):
        assert words in text, words


def test_a_champion_is_shown_with_its_metric(board: Leaderboard):
    changes = [
        ChampionChange(model="icbhi", version="1", when=NOON, reason="the first", score=51.0),
        *(
            ChampionChange(model="clips", version=version, when=when, reason="better", score=score, metric="accuracy")
            for version, when, score in (("1", "2026-02-01T03:00:00+00:00", 71.0), ("2", NOON, 73.5))
        ),
    ]
    page = index_page(board.model_copy(update={"champions": changes}))
    section = page[page.index('id="champions"') : page.index('id="search"')]
    text = " ".join(Outline(section[: section.rindex("</section>")].partition(">")[2]).text.split())
    assert "version 1 Score 51.0" in text
    assert "version 2 Accuracy 73.5" in text
    assert 'aria-label="Accuracy of the champions of clips over time' in section
    assert text.count("Score") == 1


def test_an_entrys_page_shows_what_a_reader_asks(board: Leaderboard, site: Path):
    table = board.boards[0].tables[0]
    entry = next(one for one in table.entries if one.config_hash == RECIPES[2].config_hash)
    watched = next(one for one in table.entries if one.test_watched)
    text = text_of(site / "entries" / f"{entry.id}.html")
    for words in (
        f"Rank {entry.rank}",
        f"95 % interval {entry.numbers.score.low:.1f} to {entry.numbers.score.high:.1f}",
        "champion",
        "Reliability",
        "By recording device",
        "By patient",
        "Its worst errors",
        "batch_size: 8",
        "1f2e3d4c5b6a",
        "lungtune sweep search_spaces/icbhi_cpu.yaml",
        f"lungtune train entries/{entry.id}.yaml --split official --seed 0 --seed 1 --seed 2",
        "Patients 156, 218 are on both sides",
        entry.config_hash,
        entry.data_hash,
        entry.split_hash,
        entry.results[0],
    ):
        assert words in text, words
    page = (site / "entries" / f"{entry.id}.html").read_text()
    assert page.count("<polyline") == 2 * 3  # Score and loss of every training
    assert 'href="https://mlflow.example/#/experiments/1/runs/abc"' in page
    assert "read 13 times" in text_of(site / "entries" / f"{watched.id}.html")


def test_a_tie_is_said_with_its_difference(board: Leaderboard, site: Path):
    tied = next(entry for table in board.boards[0].tables for entry in table.entries if entry.tied_with)
    text = text_of(site / "entries" / f"{tied.id}.html")
    assert "Tied with" in text
    assert f"{tied.difference.mean:+.1f} ({tied.difference.low:+.1f} to {tied.difference.high:+.1f})" in text


def test_the_command_trains_the_same_config(board: Leaderboard):
    """Floats that YAML could bend come back to the bit, so the config has its hash again."""
    settings = {
        "feature": {"kind": "fbank"},
        "model": {"name": "cnn6"},
        "objective": {"name": "ce"},
        "optim": {"name": "adamw", "lr": 0.00012345678901234567, "weight_decay": 1e-7},
    }
    config = ExperimentConfig.parse(settings, where="test")
    again = yaml.safe_load(config_text(config.model_dump(mode="json")))
    assert ExperimentConfig.parse(again, where="test").config_hash == config.config_hash
    ensemble = board.boards[0].tables[0].entries[0].model_copy(update={"kind": "ensemble"})
    assert reproduce(board.boards[0], ensemble) == ""


def test_scripts_hand_over_every_ranked_entry_with_the_cells_of_the_page(board: Leaderboard, site: Path):
    text = (site / DATA).read_text()
    content = json.loads(text.removeprefix("lungtune.take(").removesuffix(");\n"))
    assert content["facts"] == list(FACTS)
    tables = {f"{b.id}-{table.protocol}": table for b in board.boards for table in b.tables}
    assert [table["id"] for table in content["tables"]] == list(tables)
    page = (site / PAGE).read_text()
    for table in content["tables"]:
        keys = [column["key"] for column in table["columns"]]
        for (facts, values, cells), entry in zip(table["rows"], tables[table["id"]].entries, strict=True):
            assert dict(zip(FACTS, facts, strict=True))["id"] == entry.id
            assert dict(zip(FACTS, facts, strict=True))["cycles"] == entry.cycles_hash
            found = dict(zip(keys, values, strict=True))
            assert found["score"] == pytest.approx(entry.numbers.score.mean, abs=1e-4)
            assert (found["rank"], found["minutes"]) == (entry.rank, entry.cost.train_minutes)
            drawn = "".join(
                column["tags"][0] + cell + column["tags"][1]
                for column, cell in zip(table["columns"], cells, strict=True)
            )
            assert f'data-id="{entry.id}"><td class="pick"></td>{drawn}</tr>' in page


def test_only_the_first_rows_stand_in_the_page_itself(board: Leaderboard):
    grown = board.model_copy(deep=True)
    table = grown.boards[0].tables[0]
    one = table.entries[0]
    table.entries[:] = [one.model_copy(update={"id": f"{i:012x}", "rank": i + 1}) for i in range(500)]
    page = index_page(grown)
    assert page.count(f'href="entries/{FIRST_ROWS - 1:012x}.html"') >= 1
    rows = re.findall(r'<tr class="entry[^"]*" data-id="([0-9a-f]+)"', page)
    assert sum(name in {entry.id for entry in table.entries} for name in rows) == FIRST_ROWS
    assert "First 20 of 500 entries" in page


def test_nothing_from_the_data_becomes_markup(tmp_path: Path):
    store = ResultStore.open(str(tmp_path / "results"))
    result, predictions = fold_result(RECIPES[2], Side(), 0, 0)
    provenance = result.provenance.model_copy(update={"command": EVIL, "device": EVIL})
    config = json.loads(json.dumps(result.config))
    config["model"]["pretrained"]["file"] = EVIL
    config["objective"]["class_weights"] = EVIL
    store.publish(result.model_copy(update={"provenance": provenance, "config": config}), {PREDICTIONS: predictions})
    built = build_board(store, resamples=50)
    built.champions = [ChampionChange(model=EVIL, version="1", when=NOON, reason=EVIL, score=None)]
    write(
        built, tmp_path / "site", Details(built, store), runs={built.boards[0].tables[0].entries[0].config_hash: EVIL}
    )
    for page in (tmp_path / "site").rglob("*.html"):
        assert "<script>alert" not in page.read_text()
        Outline(page.read_text())
    assert "&lt;script&gt;alert(1)" in (tmp_path / "site" / PAGE).read_text()


def test_a_spectrogram_has_time_to_the_right_and_frequency_upwards():
    values = np.zeros((200, 64), np.float32)
    values[150:, 48:] = 5.0  # loud, high, late
    image = np.asarray(Image.open(io.BytesIO(picture(values))).convert("L"), float)
    assert image.shape == (HEIGHT, WIDTH)
    top, bottom = image[: HEIGHT // 5], image[HEIGHT // 2 :]
    assert top[:, int(0.8 * WIDTH) :].mean() > 150 > 60 > top[:, : int(0.7 * WIDTH)].mean()
    assert bottom.max() < 60
    assert picture(np.stack([values, values * 0])) == picture(values)  # copies: the cycle itself comes first
    maps = np.stack([values, values * 0, values * 0])
    assert picture(np.stack([maps, maps * 0])) == picture(maps) == picture(values), "of several maps the first"
    assert len(picture(np.zeros((10, 8), np.float32))) > 0  # silence has a picture too
