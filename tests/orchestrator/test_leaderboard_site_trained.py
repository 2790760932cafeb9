"""The site of a real training on a real store: pictures, breakdowns, and a command that gives the same results."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image

from feature_store.settings import Settings
from orchestrator.leaderboard.schema import EntryDetail
from orchestrator.leaderboard.site.build import write_site
from orchestrator.leaderboard.site.spectrograms import HEIGHT, WIDTH, Spectrograms
from orchestrator.leaderboard.site.write import PAGE

pytestmark = pytest.mark.slow

CONFIG = {
    "feature": {"kind": "fbank", "sample_rate": 16000, "seconds": 2.0, "n_mels": 32, "shift_ms": 40.0},
    "model": {"name": "cnn6"},
    "objective": {"name": "ce"},
    "training": {"epochs": 2, "batch_size": 16},
}


@pytest.fixture
def trained(run: Callable[..., tuple[int, str, str]], settings: Settings, tmp_path: Path) -> Path:
    """The site of one config, two seeds."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    code, _, err = run("train", tmp_path / "config.yaml", "--seed", "0", "--seed", "1", "--json")
    assert code == 0, err
    write_site(settings, tmp_path / "site")
    return tmp_path / "site"


def test_the_page_of_a_real_training(
    trained: Path, run: Callable[..., tuple[int, str, str]], settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    board = json.loads((trained / "leaderboard.json").read_text())["boards"][0]
    entry = next(table for table in board["tables"] if table["protocol"] == "validation")["entries"][0]
    detail = EntryDetail.model_validate_json((trained / "entries" / f"{entry['id']}.json").read_text())
    page = (trained / "entries" / f"{entry['id']}.html").read_text()
    assert {"class", "device", "location", "sex", "age_group", "patient"} == set(detail.breakdowns)
    for name in ("By class", "By recording device", "By chest location", "By sex", "By age group", "By patient"):
        assert name in page
    pictures = re.findall(r'src="\.\./(spectrograms/[^"]+\.png)"', page)
    assert len(pictures) == len(detail.worst) > 0
    for name in pictures:
        assert Image.open(trained / name).size == (WIDTH, HEIGHT)
    # The command of the page, run where the page says, finds the results that are there.
    command = re.search(r"<code>(lungtune train [^<]+)</code>", page)
    assert command is not None
    monkeypatch.chdir(trained)
    code, out, err = run(*shlex.split(command[1])[1:], "--json")
    assert code == 0, err
    again = json.loads(out)
    assert again["config_hash"] == entry["config_hash"]
    assert sorted(one["hash"] for one in again["runs"]) == sorted(entry["results"])
    # Without the store the same page has no pictures, and says the rest.
    write_site(replace(settings, store=str(trained / "none")), trained)
    bare = (trained / "entries" / f"{entry['id']}.html").read_text()
    assert "spectrograms/" not in bare and "Its worst errors" in bare
    assert not list(trained.glob("spectrograms/*/*.png"))
    assert (trained / PAGE).exists()


def test_where_there_is_no_store_there_are_no_pictures(tmp_path: Path):
    spectrograms = Spectrograms(Settings.load(tmp_path / "home", environ={}))
    assert spectrograms.name("icbhi", "fbank", "101#0") is None
    assert spectrograms.content_hash("icbhi", "fbank") == ""
    assert list(tmp_path.iterdir()) == []
