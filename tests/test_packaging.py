"""What a fresh machine installs, and what must not leave this one: lock file, Makefile, package data, machine paths."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK_LINE = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.!+]+)$")
MACHINE_PATH = re.compile(r"(?<![\w.~/$}-])/(?:work|root|Users|home/(?!lungtune\b)\w+)/[\w.]")
REGISTRY = re.compile(
    r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|files\.python|conda\.anaconda|registry\.npmjs|proxy\.golang"
    r"|--(?:extra-)?index-url|--find-links",
    re.IGNORECASE,
)
THIS = Path(__file__).resolve().relative_to(ROOT).as_posix()  # names what it looks for


def lock() -> dict[str, Version]:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    matches = [LOCK_LINE.match(line) for line in lines]
    wrong = [line for line, match in zip(lines, matches, strict=True) if match is None]
    assert not wrong, f"requirements.lock: not NAME==VERSION: {wrong}"
    return {canonicalize_name(match["name"]): Version(match["version"]) for match in matches if match}


def requirements() -> list[Requirement]:
    project = PROJECT["project"]
    asked = [*project["dependencies"], *PROJECT["build-system"]["requires"]]
    asked += [line for extra in project["optional-dependencies"].values() for line in extra]
    return [Requirement(line) for line in asked]


def tracked() -> list[Path]:
    """Files that are or would be committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def makefile_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text()
    return set(re.findall(r"^([a-z-]+):(?!=)", text, re.MULTILINE))


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_lock_pins_what_is_asked_for(requirement: Requirement):
    locked = lock()
    if requirement.marker and not requirement.marker.evaluate(
        {"python_version": "3.11", "python_full_version": "3.11.0"}
    ):
        pytest.skip(f"not on Python 3.11, which the lock file is for: {requirement.marker}")
    name = canonicalize_name(requirement.name)
    assert name in locked, f"requirements.lock lacks {name}: run infra/lock.sh"
    version = locked[name]
    assert requirement.specifier.contains(version, prereleases=True), f"{name}=={version} is not in {requirement}"


@pytest.mark.slow
def test_lock_is_whole():
    """Everything that the locked packages themselves need on this machine is locked too."""
    from importlib import metadata

    locked = lock()
    missing = set()
    for name, version in locked.items():
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another platform or Python
        if Version(installed.version) != version:
            pytest.skip(f"this environment is not the lock file's: {name} {installed.version}")
        for line in installed.requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                missing |= {f"{needed.name} (for {name})"} if canonicalize_name(needed.name) not in locked else set()
    assert not missing


def test_lock_holds_no_address():
    text = (ROOT / "requirements.lock").read_text()
    assert "@" not in text
    assert "://" not in text
    assert not re.search(r"^\s*-", text, re.MULTILINE)


def test_torch_and_its_companions_belong_together():
    locked = lock()
    assert locked["torch"].release[:2] == locked["torchaudio"].release[:2]
    assert locked["torchvision"].minor == locked["torch"].minor + 15  # 0.26 was built against 2.11


def test_make_targets_in_the_docs_exist():
    named = set()
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), ROOT / ".ci/run"]:
        named |= set(re.findall(r"(?:`|^ *|&& )make ([a-z-]+)", path.read_text(), re.MULTILINE))
    assert {"demo", "test"} <= named
    assert named <= makefile_targets(), f"no such make target: {sorted(named - makefile_targets())}"


def test_make_help_lists_every_target():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = set(re.findall(r"^ +make ([a-z-]+) ", shown, re.MULTILINE))
    assert listed == makefile_targets()


@pytest.mark.slow
def test_commands_in_the_readme_exist():
    """Every `lungtune ...` of the documents is a command, with the options that are shown."""
    from typer.main import get_command

    import orchestrator.cli  # noqa: F401  (adds the commands)
    from orchestrator.cli.app import app

    text = "\n".join(path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    found = re.findall(
        r"(?:^ +|`)(?:lungtune|(?:[\w./-]+ )*python -m orchestrator) ([a-z][^`#\n]*)", text, re.MULTILINE
    )
    assert len(found) >= 8
    for line in found:
        command: Any = get_command(app)
        words = line.partition(" -- ")[0].split()  # behind it stand another program's flags
        while words and getattr(command, "commands", None):
            assert words[0] in command.commands, f"`lungtune {line.strip()}`: no command {words[0]}"
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word for word in words if word.startswith("--")} <= known, f"`lungtune {line.strip()}`"


def test_links_in_the_documents_lead_somewhere():
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_settings_in_the_readme_are_all_settings():
    from feature_store.settings import KEYS

    named = set(re.findall(r"^\| `LUNGTUNE_[A-Z]+` \| `([a-z]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert named == KEYS


@pytest.mark.slow
def test_no_file_names_this_machine_or_a_registry():
    found = []
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        if name == THIS:
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            for pattern, what in ((MACHINE_PATH, "a machine's path"), (REGISTRY, "a package registry")):
                if pattern.search(line):
                    found.append(f"{name}:{number}: {what}: {line.strip()[:120]}")
    assert not found, "\n".join(found)


WORK, HOME = "/" + "work", "/" + "home"  # put together here, so that this file names no machine's path itself


@pytest.mark.parametrize("line", [f"cd {WORK}/main", 'open("/root/x")', f"PATH={HOME}/ann/bin", "file:/Users/ann/x"])
def test_machine_paths_are_recognised(line: str):
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize(
    "line", [f"..{WORK}/x", f"https://a.org{WORK}/x", "~/root/a", f"$HOME{WORK}/a", f"{HOME}/lungtune/.pgpass"]
)
def test_other_paths_are_let_through(line: str):
    assert not MACHINE_PATH.search(line)


def test_package_data_is_declared():
    """Every file of a package that is no Python is in its `package-data`, so that an installed copy has it."""
    declared = PROJECT["tool"]["setuptools"]["package-data"]
    for package in ("feature_store", "workers", "search_spaces", "orchestrator"):
        folder = ROOT / package
        covered = {path for pattern in declared.get(package, []) for path in folder.glob(pattern)}
        for path in tracked():
            if folder in path.parents and path.suffix != ".py":
                assert path in covered, f"{path.relative_to(ROOT)} is not in package-data of {package}"
        for pattern in declared.get(package, []):
            assert any(folder.glob(pattern)), f"package-data of {package}: {pattern} matches nothing"
