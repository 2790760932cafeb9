"""Which keys KubeRay's resources take (v1.6), as JSON schemas that refuse every other one.

The fields are those of KubeRay's API reference that these manifests may need; what lies in a Pod is Kubernetes' own
schema, strict too. A key that is right but new to the project is added here after a look into that reference.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

KUBERNETES = "v1.32.0-local-strict"  # of kubernetes-validate's schemas
STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
TEXT, YES, COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}


def core(kind: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/io.k8s.api.core.v1.{kind}"}


def only(required: list[str], **properties: Any) -> dict[str, Any]:
    """An object with these keys and no other."""
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


AUTOSCALER = only(
    [],
    resources=core("ResourceRequirements"),
    image=TEXT,
    imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
    securityContext=core("SecurityContext"),
    idleTimeoutSeconds=COUNT,
    upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    version={"enum": ["v1", "v2"]},
    env={"type": "array", "items": core("EnvVar")},
    envFrom={"type": "array", "items": core("EnvFromSource")},
    volumeMounts={"type": "array", "items": core("VolumeMount")},
)
HEAD = only(
    ["template"],
    template=core("PodTemplateSpec"),
    rayStartParams=STRINGS,
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    headService=core("Service"),
    enableIngress=YES,
)
WORKERS = only(
    ["groupName", "template", "minReplicas", "maxReplicas"],
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    idleTimeoutSeconds=COUNT,
    numOfHosts=COUNT,
    suspend=YES,
    rayStartParams=STRINGS,
    template=core("PodTemplateSpec"),
)
CLUSTER = only(
    ["headGroupSpec", "rayVersion"],
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    authOptions=only(["mode"], mode={"enum": ["token", "disabled"]}, secretName=TEXT),
    enableInTreeAutoscaling=YES,
    autoscalerOptions=AUTOSCALER,
    headGroupSpec=HEAD,
    workerGroupSpecs={"type": "array", "items": WORKERS},
    headServiceAnnotations=STRINGS,
    suspend=YES,
)
JOB = only(
    ["entrypoint"],
    entrypoint=TEXT,
    clusterSelector=STRINGS,
    rayClusterSpec=CLUSTER,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
    submitterPodTemplate=core("PodTemplateSpec"),
    submitterConfig=only([], backoffLimit=COUNT),
    runtimeEnvYAML=TEXT,
    jobId=TEXT,
    metadata=STRINGS,
    backoffLimit=COUNT,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    ttlSecondsAfterFinished=COUNT,
    shutdownAfterJobFinishes=YES,
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    entrypointResources=TEXT,
    suspend=YES,
)
CRON = only(["schedule", "jobTemplate"], schedule=TEXT, jobTemplate=JOB, suspend=YES)
SPECS = {"RayCluster": CLUSTER, "RayJob": JOB, "RayCronJob": CRON}


def schema(kind: str) -> dict[str, Any]:
    """The JSON schema of a whole resource of that kind."""
    place = files("kubernetes_validate") / "kubernetes-json-schema" / KUBERNETES / "_definitions.json"
    meta = {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    made = only(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=meta,
        spec=SPECS[kind],
    )
    return {**made, "$defs": json.loads(place.read_text())["$defs"]}
