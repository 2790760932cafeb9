"""Linters and schemas find nothing in the files of infra/, and would find a fault."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from tests.support.infra_files import INFRA, ROOT, SCRIPTS, YAML_FILES, load, program, run


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_yaml_parses(path: Path):
    assert all(isinstance(document, dict) for document in yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound(path: Path):
    ended = run("bash", "-n", str(path))
    assert ended.returncode == 0, ended.stderr
    assert path.stat().st_mode & stat.S_IXUSR
    assert "set -euo pipefail" in path.read_text()


@pytest.mark.slow
def test_linters_find_nothing():
    checks = [
        [program("shellcheck"), *map(str, SCRIPTS), str(ROOT / ".ci" / "run")],
        [program("hadolint"), str(INFRA / "Dockerfile")],
        [program("yamllint"), "--strict", "--config-file", str(INFRA / "yamllint.yaml"), str(INFRA)],
        [program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(INFRA / "compose.yaml")],
    ]
    for command in checks:
        ended = run(*command)
        assert ended.returncode == 0, f"{Path(command[0]).name}: {ended.stdout}{ended.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tool", "arguments", "name", "wrong", "said"),
    [
        ("shellcheck", [], "x.sh", "#!/bin/bash\nrm -rf $1/bin\n", "SC2115"),
        ("hadolint", [], "Dockerfile", "FROM python\n", "DL3006"),
        ("yamllint", ["--strict", "--config-file", str(INFRA / "yamllint.yaml")], "x.yaml", "a: 1\na: 2\n", "duplic"),
        (
            "check-jsonschema",
            ["--builtin-schema", "vendor.compose-spec"],
            "compose.yaml",
            "services:\n  x: {imagee: y}\n",
            "imagee",
        ),
    ],
)
def test_linters_would_find_a_fault(tool: str, arguments: list[str], name: str, wrong: str, said: str, tmp_path: Path):
    (tmp_path / name).write_text(wrong)
    ended = run(program(tool), *arguments, str(tmp_path / name))
    assert ended.returncode != 0
    assert said in ended.stdout + ended.stderr


def test_ray_takes_the_cluster_file():
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    config = load("ray-cluster.yaml")
    validate_config(fillout_defaults(config))
    with pytest.raises(Exception, match=r"setup_comands|Additional properties"):
        validate_config(fillout_defaults({**config, "setup_comands": []}))
