"""The house rules that code can hold: imports run one way, heavy libraries stay where they belong, files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers import numbers_version

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("feature_store", "workers", "search_spaces", "orchestrator")  # each may import itself and those before it
MODULES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
ORCHESTRATION = frozenset({"ray", "mlflow", "optuna"})
MAY_IMPORT = {"feature_store/build.py": {"ray"}, "search_spaces/": {"optuna"}, "orchestrator/": set(ORCHESTRATION)}
LONGEST = 500
PACKAGES = (
    ("orchestrator.csv_cells", "orchestrator.events", "orchestrator.markdown"),
    ("orchestrator.analysis", "orchestrator.execution", "orchestrator.pruning"),
    ("orchestrator.studies",),
    ("orchestrator.diagnosis",),
    ("orchestrator.tracking",),
    ("orchestrator.registry",),
    ("orchestrator.leaderboard", "orchestrator.sweep", "orchestrator.ensembles", "orchestrator.contest"),
    ("orchestrator.nightly", "orchestrator.demo"),
    ("orchestrator.cli",),
    ("orchestrator.__main__",),
)
"""The orchestrator's packages, and modules beside them, from the bottom up; one row's do not import each other."""
MANY_MODULES = frozenset(
    {
        "feature_store",
        "feature_store/datasets",
        "feature_store/features",
        "workers",
        "workers/models",
        "search_spaces",
        "orchestrator/cli",
        "orchestrator/leaderboard",
    }
)

TORCHLESS = (
    "workers.config",
    "workers.results",
    "workers.fold",
    "workers.models.published_weights",
    "feature_store.store",
    "search_spaces.schema",
    "orchestrator.sweep.trial",
    "orchestrator.sweep.run",
)
RAYLESS = ("workers.fold", "workers.training", "feature_store.store", "feature_store.build")

BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"ray", "mlflow", "optuna"}:
            raise ImportError(f"{name} is not installed on this machine")

sys.meta_path.insert(0, Blocker())
"""

TRAIN = """
import json
from pathlib import Path

import numpy as np

from feature_store.build import build
from feature_store.datasets import open_corpus
from feature_store.features import resolve_feature
from feature_store.store import FeatureStore
from workers.config import ExperimentConfig
from workers.fold import FoldRun, Site, run_fold

root, home, feature = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
store = FeatureStore.open(str(home / "store"), create=True)
build(open_corpus("icbhi", root), resolve_feature(feature), store, workers=0)
config = ExperimentConfig.parse({
    "feature": feature,
    "model": {"name": "crnn", "hidden": 4},
    "objective": {"name": "ce"},
    "training": {"epochs": 1, "batch_size": 8},
})
places = {name: str(home / name) for name in ("store", "results", "cache", "weights")}
result = run_fold(FoldRun(config, "official", 0, 0), Site(**places, device="cpu"))
print(result.hash, result.protocols["last"].test.n)
"""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import of a module, those inside functions too."""
    package = relative(path).removesuffix(".py").split("/")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            yield node.lineno, ".".join([*base, *([node.module] if node.module else [])])


def module_name(path: Path) -> str:
    return relative(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


NAMES = {module_name(path): path for path in MODULES}


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )


def test_there_is_something_to_look_at():
    for layer in LAYERS:
        assert any(relative(path).startswith(f"{layer}/") for path in MODULES), layer


@pytest.mark.slow
def test_imports_run_one_way():
    wrong = []
    for path in MODULES:
        height = LAYERS.index(relative(path).split("/")[0])
        for line, name in imports(path):
            top = name.partition(".")[0]
            if top == "tests" or (top in LAYERS and LAYERS.index(top) > height):
                wrong.append(f"{relative(path)}:{line} imports {name}")
    assert not wrong, "\n".join([f"imports run {' <- '.join(LAYERS)} only:", *wrong])


@pytest.mark.slow
def test_ray_mlflow_and_optuna_stay_above_the_workers():
    wrong = []
    for path in MODULES:
        allowed = {name for place, names in MAY_IMPORT.items() if relative(path).startswith(place) for name in names}
        for line, name in imports(path):
            if name.partition(".")[0] in ORCHESTRATION - allowed:
                wrong.append(f"{relative(path)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def foreign_private_names(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of every ``x._name`` of a module that the module does not define itself."""
    tree = ast.parse(path.read_text())
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {node.attr for node in attributes if isinstance(node.ctx, ast.Store)}
    own |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in attributes:
        if node.attr.startswith("_") and not node.attr.startswith("__") and node.attr not in own:
            yield node.lineno, node.attr


@pytest.mark.slow
def test_optuna_is_used_by_its_public_interface():
    """Of its modules, and of its objects: what else has a name with an underscore is the module's own."""
    users = [path for path in MODULES if any(name.partition(".")[0] == "optuna" for _, name in imports(path))]
    assert users
    wrong = [f"{relative(path)}:{line} uses {name}" for path in users for line, name in foreign_private_names(path)]
    wrong += [
        f"{relative(path)}:{line} imports {name}"
        for path in users
        for line, name in imports(path)
        if name.startswith("optuna.") and "._" in name
    ]
    assert not wrong, "\n".join(wrong)


def test_the_search_for_private_names_finds_one(tmp_path: Path):
    module = tmp_path / "module.py"
    module.write_text(
        "class Kept:\n    _limit: int = 3\n\n    def _own(self):\n        self._made = self._limit\n"
        "        return self._made, self._own, self.study._storage, self._file_path, self.__class__\n"
    )
    assert sorted(foreign_private_names(module)) == [(6, "_file_path"), (6, "_storage")]


def imported_modules(path: Path) -> set[str]:
    """Modules of the project that a module imports, at its top or inside its functions."""
    package = relative(path).removesuffix(".py").split("/")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{source}.{alias.name}" if f"{source}.{alias.name}" in NAMES else source for alias in node.names}
    return {name for name in found if name in NAMES} - {module_name(path)}


def circle(edges: dict[str, set[str]]) -> list[str]:
    """The nodes of a circle, the first one repeated at its end; empty if there is none."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node not in done:
            for other in sorted(edges.get(node, ())):
                if found := visit(other, [*path, node]):
                    return found
            done.add(node)
        return []

    return next((found for node in sorted(edges) if (found := visit(node, []))), [])


def package_of(name: str) -> str:
    """The package of a module, and for a module beside the packages of its layer its own name."""
    parts = name.split(".")
    folder = parts if NAMES[name].name == "__init__.py" else parts[:-1]
    return ".".join(folder[:2]) if len(folder) > 1 else name


def test_the_search_for_circles_finds_one():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.slow
def test_no_module_imports_itself_in_a_circle():
    """Imports inside functions count: such a circle works, and hides that two modules cannot be read alone."""
    found = circle({name: imported_modules(path) for name, path in NAMES.items()})
    assert not found, f"a circle: {' -> '.join(found)}"


@pytest.mark.slow
def test_packages_of_the_orchestrator_import_one_way():
    """In the order of `PACKAGES`: each imports only those before it."""
    places = {name: place for place, row in enumerate(PACKAGES) for name in row}
    wrong = []
    for name, path in NAMES.items():
        if name.startswith("orchestrator."):
            own = package_of(name)
            for other in imported_modules(path):
                target = package_of(other)
                if other.startswith("orchestrator.") and target != own and places[target] >= places[own]:
                    wrong.append(f"{name} imports {other}")
    assert not wrong, "\n".join(sorted(wrong))


def test_packages_are_small_enough_to_look_through():
    """At most nine modules, but for the places where every command, architecture or part of a corpus has its own."""
    folders = {path.parent for path in MODULES}
    large = {relative(folder): count for folder in folders if (count := len(list(folder.glob("[!_]*.py")))) > 9}
    assert set(large) <= MANY_MODULES, large


@pytest.mark.slow
@pytest.mark.parametrize("module", RAYLESS)
def test_imports_without_ray_mlflow_and_optuna(module: str):
    ended = run_python(f"{BLOCKED}import {module}")
    assert ended.returncode == 0, ended.stderr


def test_the_blocker_blocks():
    ended = run_python(f"{BLOCKED}import orchestrator.sweep.run")
    assert ended.returncode == 1
    assert "is not installed on this machine" in ended.stderr


@pytest.mark.slow
def test_builds_and_trains_without_ray_mlflow_and_optuna(synthetic_corpus: Path, tmp_path: Path):
    import json

    from tests.conftest import TINY_FEATURE

    ended = run_python(BLOCKED + TRAIN, str(synthetic_corpus), str(tmp_path), json.dumps(TINY_FEATURE))
    assert ended.returncode == 0, ended.stderr
    result_hash, tested = ended.stdout.split()
    assert (tmp_path / "results" / result_hash[:2] / result_hash / "result.json").exists()
    assert int(tested) > 0


@pytest.mark.slow
def test_driver_and_trial_processes_import_no_torch():
    lines = ["import importlib, sys"]
    for module in TORCHLESS:
        lines.append(f"importlib.import_module({module!r})")
        lines.append(f"assert 'torch' not in sys.modules, 'import {module} imports torch'")
    ended = run_python("\n".join(lines))
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_module_says_what_it_is_for_and_is_small(path: Path):
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{relative(path)} has no docstring"
    lines = len(text.splitlines())
    assert lines <= LONGEST, f"{relative(path)} has {lines} lines, more than {LONGEST}: it has two purposes, split it"


def test_module_names_say_something():
    vague = {"utils", "util", "helpers", "helper", "manager", "common", "misc", "base2"}
    assert not [relative(path) for path in MODULES if vague & set(relative(path).removesuffix(".py").split("/"))]


def test_semantics_version_follows_the_code():
    found = numbers_version.code_digest()
    assert found == numbers_version.DIGEST, (
        f"the code that decides a training's numbers has changed: its digest is now {found!r}.\n"
        "If the same config, data and seed may now give other numbers, raise VERSION in workers/numbers_version.py: "
        "results of the old code are then no longer taken for the new one's.\n"
        f'In either case set DIGEST = "{found}" there.'
    )


def test_digest_sees_code_and_not_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(numbers_version, "__file__", str(tmp_path / "numbers_version.py"))
    module = tmp_path / "training.py"

    def digest(text: str) -> str:
        module.write_text(text)
        return numbers_version.code_digest()

    first = digest('"""One."""\n\n\ndef rate(x):\n    """Two."""\n    return x * 2  # three\n')
    assert digest("def rate(x):\n    return (x * 2)\n") == first
    assert digest("def rate(x):\n    return x * 3\n") != first
