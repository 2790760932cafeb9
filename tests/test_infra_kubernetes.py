"""The manifests of infra/kuberay: Kubernetes and KubeRay take every key, Pods are confined, names agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support import kuberay_schemas
from tests.support.infra_files import INFRA, ROOT, load, pods

KUBERNETES = sorted((INFRA / "kuberay").glob("*.yaml"))


def refused(resource: dict[str, Any]) -> list[str]:
    """What Kubernetes' or KubeRay's schema minds in a resource."""
    if resource["apiVersion"] == "ray.io/v1":
        validator = jsonschema.Draft202012Validator(kuberay_schemas.schema(resource["kind"]))
        return [f"{list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(resource)]
    try:
        kubernetes_validate.validate(resource, "1.32", strict=True)
    except kubernetes_validate.ValidationError as error:
        return [str(error.message)]
    return []


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_kubernetes_takes_every_key(path: Path):
    assert refused(yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize(
    ("name", "place", "key"),
    [
        ("raycluster", "spec", "enableInTreeAutoscalling"),
        ("raycluster", "spec.autoscalerOptions", "idleTimeout"),
        ("raycluster", "spec.workerGroupSpecs.1", "maxReplica"),
        ("raycluster", "spec.workerGroupSpecs.1.template.spec", "toleration"),
        ("raycluster", "spec.headGroupSpec.template.spec.containers.0.securityContext", "runAsNonroot"),
        ("sweep-rayjob", "spec", "clusterSelectors"),
        ("nightly-raycronjob", "spec", "rayJobTemplate"),
        ("nightly-cronjob", "spec", "concurrency"),
        ("sweep-job", "spec.template.spec.containers.0.resources", "limit"),
    ],
)
def test_a_misspelt_key_is_found(name: str, place: str, key: str):
    resource = load(f"kuberay/{name}.yaml")
    inside: Any = resource
    for step in place.split("."):
        inside = inside[int(step) if step.isdigit() else step]
    inside[key] = "x"
    assert any(key in fault for fault in refused(resource))


@pytest.mark.parametrize(("name", "pod"), pods().items(), ids=list(pods()))
def test_pods_are_confined_and_limited(name: str, pod: dict[str, Any]):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1000  # the Dockerfile's
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        for bound in ("requests", "limits"):
            assert {"cpu", "memory"} <= set(container["resources"][bound])
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in pod.get("volumes", [])}


def test_the_cluster_grows_over_spot_machines_and_keeps_a_gpu():
    cluster = load("kuberay/raycluster.yaml")["spec"]
    assert cluster["enableInTreeAutoscaling"] is True
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    for group in groups.values():
        assert group["minReplicas"] <= group["replicas"] < group["maxReplicas"]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert limits["nvidia.com/gpu"] == "1"
    assert (
        groups["gpu"]["minReplicas"] == 1
    )  # orchestrator.execution.cluster refuses a cluster without the GPU that is asked for
    spot = groups["gpu-spot"]["template"]["spec"]
    label = spot["nodeSelector"]
    tolerated = {item["key"]: item.get("value") for item in spot["tolerations"]}
    assert tolerated | label == tolerated
    assert set(label) - {item["key"] for item in groups["gpu"]["template"]["spec"].get("tolerations", [])}


@pytest.mark.slow
def test_kubernetes_authenticates_every_ray_process():
    cluster = load("kuberay/raycluster.yaml")["spec"]
    assert cluster["authOptions"] == {"mode": "token", "secretName": "lungtune-ray"}
    for name in ("sweep-rayjob", "nightly-raycronjob"):  # the operator gives them the token of the cluster they select
        spec = load(f"kuberay/{name}.yaml")["spec"]
        selected = spec.get("jobTemplate", spec)["clusterSelector"]
        assert selected == {"ray.io/cluster": load("kuberay/raycluster.yaml")["metadata"]["name"]}
    for name in ("sweep-job", "nightly-cronjob"):
        environment = {item["name"]: item["value"] for item in pods()[name]["containers"][0]["env"]}
        assert environment["RAY_AUTH_MODE"] == "token"
        assert environment["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray/auth_token"
        assert {"name": "token", "secret": {"secretName": "lungtune-ray"}} in pods()[name]["volumes"]
    for name in ("head", "gpu", "gpu-spot"):
        environment = {item["name"]: item for item in pods()[name]["containers"][0]["env"]}
        reference = environment["MLFLOW_TRACKING_PASSWORD"]["valueFrom"]["secretKeyRef"]
        assert reference == {"name": "lungtune-mlflow", "key": "password"}


def test_kubernetes_jobs_find_their_cluster_and_their_command():
    cluster = load("kuberay/raycluster.yaml")["metadata"]["name"]
    for name in ("sweep-job", "nightly-cronjob"):
        submit = pods()[name]["containers"][0]
        address = next(item["value"] for item in submit["env"] if item["name"] == "RAY_API_SERVER_ADDRESS")
        assert address == f"http://{cluster}-head-svc:8265"  # the service KubeRay makes
        assert (ROOT / submit["command"][0]).exists()
    space = pods()["sweep-job"]["containers"][0]["command"][-1]
    assert (ROOT / space).exists()
    assert f" sweep /opt/lungtune/{space} " in load("kuberay/sweep-rayjob.yaml")["spec"]["entrypoint"]
