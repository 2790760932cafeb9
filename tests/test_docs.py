"""What the pages name is in the repository, wherever a file is moved."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
FOLDERS = "benchmarks|docs|feature_store|infra|orchestrator|search_spaces|tests|workers"


def paths(text: str) -> set[str]:
    """Files and folders in code marks, of the repository's own folders; not `<name>`, no secret that a start makes."""
    found = re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", text)
    return {path for path in found if not path.startswith("infra/secrets")}


@pytest.mark.parametrize("page", PAGES)
def test_files_and_folders_that_a_page_names_exist(page: str) -> None:
    named = paths((ROOT / page).read_text(encoding="utf-8"))
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_paths_are_found() -> None:
    assert paths("`workers/fold.py`, `docs/`, `workers/models/<name>.py`, `model.size`") == {"workers/fold.py", "docs/"}
    assert len(paths((ROOT / "docs/specification.md").read_text(encoding="utf-8"))) > 30
