"""A fold run's weights as an MLflow model folder: code, config, safetensors and the model card, no pickle."""

from __future__ import annotations

import tempfile
from importlib import metadata
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType

import feature_store
import workers
from orchestrator.registry.card.card import Dependency, ModelCard
from orchestrator.registry.card.card_markdown import page
from workers.config import ExperimentConfig
from workers.inference import write_model
from workers.results import WEIGHTS, ResultStore

MODEL_CODE = Path(__file__).parent / "serving_model.py"
CARD, CARD_PAGE = "model_card.json", "MODEL_CARD.md"
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


def dependencies(config: ExperimentConfig) -> list[Dependency]:
    """What a model of this config needs to run, at the versions of this installation; with the package it is from.

    Raises:
        UserError: the package that the model is from is not installed here.
    """
    own = [(name, metadata.version(name)) for name in REQUIREMENTS]
    others = sorted({package.rpartition(" ")[::2] for package in config.packages.values()})
    return [Dependency(name=name, version=version) for name, version in [*own, *others]]


def save_model(folder: Path, config: ExperimentConfig, card: ModelCard, results: ResultStore) -> None:
    """Write a model to a folder that `mlflow.pyfunc.load_model` and `mlflow models serve` take.

    Args:
        folder: must not exist yet.
        config: of the fold run whose weights are taken, `card.weights_result`.
        card: what the model says of itself.
        results: the store that holds the weights.

    Raises:
        UserError: the result was stored without its weights.
    """
    with tempfile.TemporaryDirectory() as staging:
        files = write_model(Path(staging), config, card.classes, results.read(card.weights_result, WEIGHTS))
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(MODEL_CODE),
            artifacts=files,
            code_paths=[str(Path(package.__file__).parent) for package in (feature_store, workers) if package.__file__],
            pip_requirements=[str(dependency) for dependency in card.dependencies],
            metadata={key: value for key, value in card.tags().items() if key != "card"},
            signature=signature(card.classes, with_table=config.feature.table > 0),
            input_example=pd.DataFrame(
                {"samples": [[0.0, 0.25, 0.0, -0.25]], "rate": [4000], "cycles": [[[0.0, 0.001]]]}
            ),
        )
    (folder / CARD).write_text(card.model_dump_json(indent=1))
    (folder / CARD_PAGE).write_text(page(card))


def signature(classes: list[str], *, with_table: bool = False) -> ModelSignature:
    """What the model takes and gives: see `serving_model.RespiratorySoundModel`.

    No input column is required, since a row has one of ``path``, ``audio`` and ``samples``. They and most others are of
    any type: MLflow takes no whole number for a float, and 16000 and [[0, 2]] are what people write. What is wrong with
    a value is then said by the model, by its row.
    """
    number, text = DataType.double, DataType.string
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(AnyType(), "path", required=False),
        ColSpec(AnyType(), "audio", required=False),
        ColSpec(AnyType(), "samples", required=False),
        ColSpec(AnyType(), "rate", required=False),
        ColSpec(AnyType(), "start", required=False),
        ColSpec(AnyType(), "end", required=False),
        ColSpec(AnyType(), "cycles", required=False),
        *([ColSpec(AnyType(), "table", required=False)] if with_table else []),
    ]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.long, "row"),
        *(ColSpec(text, name) for name in ("recording", "level")),
        *(ColSpec(number, name) for name in ("start", "end")),
        *(ColSpec(text, name) for name in ("label", "note")),
        *(ColSpec(number, name) for name in classes),
    ]
    windows = [ParamSpec(name, number, None) for name in ("window_seconds", "hop_seconds")]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs), params=ParamSchema(windows))
