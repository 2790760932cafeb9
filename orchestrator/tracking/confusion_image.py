"""Pictures for MLflow, drawn by Pillow: a trial's takes a few milliseconds, where matplotlib takes two hundred."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

CELL, MARGIN, TOP, FOOT = 96, 110, 64, 44
LIGHT, DARK = np.array([247, 251, 255]), np.array([8, 48, 107])  # of the shades, from no cycle to all


def confusion_figure(confusion: np.ndarray, classes: list[str], title: str) -> Image:
    """A confusion matrix: counts, shaded by the share of the true class.

    Args:
        confusion: ``[true, predicted]`` counts.
        classes: their names, in order.
        title: above the picture.
    """
    from PIL import Image, ImageDraw, ImageFont

    confusion = np.asarray(confusion)
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = CELL * len(classes)
    wide = max(MARGIN + side + 16, 8 * len(title) + 24)
    picture = Image.new("RGB", (wide, TOP + side + FOOT), "white")
    draw, small, large = ImageDraw.Draw(picture), ImageFont.load_default(13), ImageFont.load_default(15)
    draw.text((12, 10), title, fill="black", font=large)
    for row, column in np.ndindex(*confusion.shape):
        left, above = MARGIN + column * CELL, TOP + row * CELL
        shade = tuple(int(v) for v in LIGHT + share[row, column] * (DARK - LIGHT))
        draw.rectangle((left, above, left + CELL - 2, above + CELL - 2), fill=shade)
        text = f"{confusion[row, column]}\n{share[row, column]:.0%}"
        ink = "white" if share[row, column] > 0.45 else "black"
        middle = (left + CELL / 2, above + CELL / 2)
        draw.multiline_text(middle, text, fill=ink, font=large, anchor="mm", align="center")
    for index, name in enumerate(classes):
        along = (index + 0.5) * CELL
        draw.text((MARGIN - 8, TOP + along), name, fill="black", font=small, anchor="rm")
        draw.text((MARGIN + along, TOP + side + 6), name, fill="black", font=small, anchor="ma")
    centre = MARGIN + side / 2
    draw.text((centre, TOP - 18), "true in rows, predicted in columns", fill="#555", font=small, anchor="ma")
    draw.text((centre, TOP + side + 24), "share of the true class", fill="#555", font=small, anchor="ma")
    return picture
