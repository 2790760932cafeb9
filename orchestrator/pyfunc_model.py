"""MLflow's model from code: loaded by `mlflow.pyfunc.load_model`, nothing in it is pickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel

from workers.inference import SoundModel


class RespiratorySoundModel(PythonModel):
    """Rows of ``path`` (and, where cycles are known, ``start`` and ``end`` in seconds) to class probabilities.

    A recording without any times is cut into windows of the feature's length.
    """

    def load_context(self, context: Any) -> None:
        self.model = SoundModel(Path(context.artifacts["weights"]).parent)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row a cycle: path, start, end, label, and a column of probability for each class."""
        rows = []
        timed = model_input.reindex(columns=["path", "start", "end"])
        for path, group in timed.groupby("path", sort=False):
            known = group[["start", "end"]].notna().to_numpy().any()
            spans = [(float(s), float(e)) for s, e in zip(group["start"], group["end"], strict=True)] if known else None
            for predicted in self.model.predict(Path(str(path)), spans):
                named = dict(zip(self.model.classes, predicted.probabilities.tolist(), strict=True))
                label = max(named, key=lambda name: named[name])
                rows.append({"path": path, "start": predicted.start, "end": predicted.end, "label": label, **named})
        return pd.DataFrame(rows)


mlflow.models.set_model(RespiratorySoundModel())
