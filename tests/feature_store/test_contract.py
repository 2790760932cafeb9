"""An adapter's fault is named where it is made, and costs that adapter alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from feature_store.audit import audit
from feature_store.datasets import CORPORA, Corpus, Cycle, Recording, broken_adapters, corpora_in, open_corpus
from feature_store.datasets.contract import check_class, check_corpus, splits_of
from feature_store.errors import UserError
from feature_store.splits import SplitTable

PLACE = ("p", "d", "l", "m")
GOOD = Recording("a", *PLACE, Path("a.wav"), Path("a.txt"), (Cycle("a#000", "a", *PLACE, 0.0, 1.0, {"noise": 1}),), "")


class Toy(Corpus):
    name = "toy"
    classes = {"noise": ("quiet", "loud")}  # noqa: RUF012

    def __init__(self, root: str | Path, recordings: Any = (GOOD,), problems: Any = ()) -> None:
        self.root, self.recordings, self.problems = Path(root), list(recordings), list(problems)
        self.assigned = ["a#000"]

    def splits(self) -> dict[str, SplitTable]:
        return {"halves": SplitTable.of_sides("halves", {0: {"train": self.assigned, "test": []}})}


def cycle(**changes: Any) -> Recording:
    return replace(GOOD, cycles=(replace(GOOD.cycles[0], **changes),))


@pytest.mark.parametrize(
    ("recordings", "what"),
    [
        ([GOOD, replace(GOOD, cycles=())], "another recording has this name"),
        ([GOOD, replace(GOOD, name="b")], "two cycles are 'a#000'"),
        ([cycle(labels={"noise": 2})], "label 2 of task 'noise'; it must be 0 to 1"),
        ([cycle(labels={"noise": -1})], "label -1"),
        ([cycle(labels={"noise": "loud"})], "label 'loud'"),
        ([cycle(labels={"niose": 0})], "unknown task 'niose' (did you mean 'noise'"),
        ([cycle(start=2.0)], "lasts from 2.0 to 1.0 s"),
        ([cycle(end=float("nan"))], "lasts from 0.0 to nan s"),
        ([cycle(patient="q")], "patient 'q'"),
        ([replace(GOOD, patient="", cycles=())], "`patient` is ''"),
        ([replace(GOOD, audio="a.wav")], "not a Path"),
        (["a"], "`recordings` is not a list of Recording"),
    ],
)
def test_a_fault_of_a_recording_is_named_with_its_file(recordings: list[Any], what: str) -> None:
    check_corpus(Toy("."))
    with pytest.raises(UserError) as error:
        check_corpus(Toy(".", recordings))
    assert what in error.value.what
    assert "adapter Toy in" in str(error.value.where) and error.value.hint
    if what[0] != "`" or "patient" in what:
        assert "a.txt, recording '" in error.value.what


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"name": "two words"}, "`name`"),
        ({"name": "../up"}, "`name`"),
        ({"classes": {}}, "`classes`"),
        ({"classes": {"noise": ("quiet",)}}, "two names or more"),
        ({"classes": {"noise": ("quiet", "quiet")}}, "names a class twice"),
        ({"metrics": {"noise": "uarr"}}, "'uarr' (did you mean 'uar'"),
        ({"metrics": {"niose": "uar"}}, "unknown task 'niose'"),
    ],
)
def test_a_fault_of_the_class_is_named(changes: dict[str, Any], what: str) -> None:
    check_class(Toy)
    with pytest.raises(UserError) as error:
        check_class(type("Broken", (Toy,), changes))
    assert what in error.value.what


def test_a_split_of_strange_cycles_is_refused_by_the_check() -> None:
    corpus = Toy(".")
    assert list(splits_of(corpus)) == ["halves"]
    corpus.assigned = ["a#000", "z#000"]
    with pytest.raises(UserError, match="1 cycles that the corpus lacks, the first z#000"):
        splits_of(corpus)
    assert [p.severity for p in audit(corpus).problems if "z#000" in p.what] == ["error"]


def test_every_shipped_adapter_keeps_the_contract() -> None:
    assert len(CORPORA) >= 4
    for corpus in CORPORA.values():
        check_class(corpus)


BROKEN = {
    "lacks_a_module": "import a_package_that_is_not_there",
    "exits": "raise SystemExit('no licence')",
    "divides": "1 / 0",
    "is_no_python": "def (:",
    "has_no_name": "from feature_store.datasets.base import Corpus\nclass C(Corpus):\n"
    "    def __init__(self, root): pass\n    def splits(self): return {}",
}


def test_a_broken_module_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "adapters_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    for name, code in BROKEN.items():
        (folder / f"{name}.py").write_text(code)
    named = "    name = 'g'\n    classes = {'t': ('a', 'b')}\n    def"
    (folder / "good.py").write_text(BROKEN["has_no_name"].replace("    def", named, 1))
    monkeypatch.syspath_prepend(tmp_path)
    found, broken = corpora_in("adapters_of_a_test", [str(folder)])
    assert list(found) == ["g"] and len(broken) == len(BROKEN)
    told = "\n".join(map(str, broken))
    assert all(name in told for name in BROKEN)
    assert "a_package_that_is_not_there" in told and "no licence" in told


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Two packages with an adapter that cannot be used."""
    (tmp_path / "bad_package.py").write_text("1 / 0")
    (tmp_path / "rough_package.py").write_text(
        "from feature_store.datasets.base import Corpus\nclass C(Corpus):\n    name = 'rough'\n"
        "    classes = {'t': ('a', 'b')}\n    def __init__(self, root): self.nothing[0]\n"
        "    def splits(self): return {}"
    )
    about = tmp_path / "bad_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[lungtune.corpora]\nbad = bad_package:C\nrough = rough_package:C\n")
    return tmp_path


def test_a_broken_entry_point_is_named_and_refused_only_where_it_is_asked_for(
    installed: Path, synthetic_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(installed)
    (broken,) = [error for error in broken_adapters() if "bad" in str(error)]
    assert "ZeroDivisionError" in broken.what and broken.where == "entry point bad = bad_package:C"
    with pytest.raises(UserError, match="cannot be loaded"):
        open_corpus("bad", installed)
    with pytest.raises(UserError, match=r"failed while it read .*AttributeError"):
        open_corpus("rough", installed)
    assert open_corpus("icbhi", synthetic_corpus).recordings


@pytest.mark.slow
def test_commands_run_beside_a_broken_adapter(installed: Path, synthetic_corpus: Path) -> None:
    path = f"{Path(__file__).parents[2]}:{installed}"
    for arguments in (["--help"], ["data", "check", "--root", str(synthetic_corpus)]):
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator", *arguments],
            env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "HOME": str(installed)},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0 and "Traceback" not in done.stderr
    assert "an adapter cannot be used" in done.stderr and "bad_package" in done.stderr
