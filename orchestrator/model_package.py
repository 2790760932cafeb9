"""A fold run's weights as an MLflow model folder: code, config and safetensors, no pickle."""

from __future__ import annotations

import json
import tempfile
from importlib import metadata
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

import feature_store
import workers
from workers.config import ExperimentConfig
from workers.inference import write_model
from workers.results import WEIGHTS, FoldResult, ResultStore

MODEL_CODE = Path(__file__).parent / "pyfunc_model.py"
REQUIREMENTS = (
    "mlflow",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "safetensors",
    "soundfile",
    "timm",
    "torch",
    "torchaudio",
    "torchvision",
)


def save_model(
    folder: Path, config: ExperimentConfig, result: FoldResult, results: ResultStore, tags: dict[str, str]
) -> None:
    """Write the model of a fold run to a folder that `mlflow.pyfunc.load_model` and `mlflow models serve` take.

    Args:
        folder: must not exist yet.
        config: of the run.
        result: the run whose weights are taken.
        results: the store that holds them.
        tags: what the registered version says of itself; kept with the model.

    Raises:
        UserError: the result was stored without its weights.
    """
    with tempfile.TemporaryDirectory() as staging:
        files = write_model(Path(staging), config, result.data.classes, results.read(result.hash, WEIGHTS))
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(MODEL_CODE),
            artifacts=files,
            code_paths=[str(Path(package.__file__).parent) for package in (feature_store, workers) if package.__file__],
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in REQUIREMENTS],
            metadata={key: str(value) for key, value in tags.items()},
            signature=signature(result.data.classes),
            input_example=pd.DataFrame({"path": ["recording.wav"], "start": [0.0], "end": [2.5]}),
        )
    (folder / "tags.json").write_text(json.dumps(tags, indent=1))


def signature(classes: list[str]) -> ModelSignature:
    """What the model takes and gives: see `pyfunc_model.RespiratorySoundModel`."""
    number, text = DataType.double, DataType.string
    times = [ColSpec(number, name, required=False) for name in ("start", "end")]
    spans = [ColSpec(number, name) for name in ("start", "end")]
    probabilities = [ColSpec(number, name) for name in classes]
    return ModelSignature(
        inputs=Schema([ColSpec(text, "path"), *times]),
        outputs=Schema([ColSpec(text, "path"), *spans, ColSpec(text, "label"), *probabilities]),
    )
