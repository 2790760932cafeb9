"""Pictures for MLflow."""

from __future__ import annotations

import numpy as np

from orchestrator.tracking.confusion_image import CELL, MARGIN, TOP, confusion_figure


def test_a_cell_is_the_darker_the_larger_its_share_of_the_true_class() -> None:
    confusion = np.array([[90, 10, 0], [5, 5, 0], [0, 0, 0]])
    picture = confusion_figure(confusion, ["normal", "crackle", "wheeze"], "trial 3: 5 fold runs together, last epoch")

    def brightness(row: int, column: int) -> float:
        return float(np.mean(picture.getpixel((MARGIN + column * CELL + 4, TOP + row * CELL + 4))))

    shades = [brightness(0, 0), brightness(1, 0), brightness(0, 1), brightness(0, 2)]
    assert shades == sorted(shades) and len(set(shades)) == 4
    assert brightness(1, 0) == brightness(1, 1) and brightness(2, 0) == brightness(0, 2), "no cycle at all is no share"
    assert picture.width > MARGIN + 3 * CELL and picture.height > TOP + 3 * CELL
