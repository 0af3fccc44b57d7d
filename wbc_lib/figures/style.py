"""Figures of the book: data in, a matplotlib Figure out. Nothing here trains or reads files."""

from base64 import b64encode
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from wbc_lib.data.dataset import CLASSES

#: A colour per class, the same on every page (Okabe and Ito's palette, safe for colour-blind readers).
CLASS_COLOURS = dict(zip(CLASSES, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=True))
TRAINING, VALIDATION, TEST, PAPER, GREY = "#E69F00", "#0072B2", "#000000", "#999999", "#666666"
BOX_COLOURS = {"WBC": "#D55E00", "RBC": "#56B4E9", "Platelets": "#F0E442"}
#: Width of the text column, in inches.
WIDTH = 7.2

_STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "black",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "figure.dpi": 110,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "patch.force_edgecolor": False,
    "savefig.bbox": "tight",
    "savefig.dpi": 220,
    "text.color": "black",
}


def use_style() -> None:
    """Apply the book's look to every figure drawn from now on, and let a notebook show figures as pictures."""
    from IPython import get_ipython

    sns.set_theme(context="paper", style="whitegrid", rc=_STYLE)
    if shell := get_ipython():
        formatters = shell.display_formatter.formatters
        formatters["image/png"].for_type(Figure, show_as_png)
        formatters["image/jpeg"].for_type(Figure, show_as_jpeg)


def show_as_png(figure: Figure) -> tuple[str, dict[str, int]] | None:
    """Make a PNG of a figure without photos: base64, and the ``width`` and ``height`` it is shown at, in pixels."""
    return None if _holds_photos(figure) else encode_png(figure)


def show_as_jpeg(figure: Figure) -> tuple[str, dict[str, int]] | None:
    """Make a JPEG of a figure with photos, likewise: as a PNG it would weigh several times as much."""
    if not _holds_photos(figure):
        return None
    # Thin lines in colour keep their edges if colour is sampled as finely as brightness.
    return _encode(_draw(figure, 2), 2, "jpeg", quality=80, subsampling=0, optimize=True)


def encode_png(figure: Figure, scale: int = 2, colours: int = 256) -> tuple[str, dict[str, int]]:
    """Make a PNG of few colours, which are enough for a chart and weigh a third.

    Gives it in base64, and the ``width`` and ``height`` it is shown at; it has `scale` pixels for each of these.
    """
    drawn = _draw(figure, scale)
    reduced = drawn.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return _encode(reduced, scale, "png", optimize=True)


def _draw(figure: Figure, scale: int) -> Image.Image:
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=scale * figure.dpi, pil_kwargs={"compress_level": 1})
    return Image.open(drawn).convert("RGB")


def _encode(picture: Image.Image, scale: int, form: str, **options: object) -> tuple[str, dict[str, int]]:
    encoded = BytesIO()
    picture.save(encoded, form, **options)
    width, height = picture.size
    return b64encode(encoded.getvalue()).decode("ascii"), {"width": width // scale, "height": height // scale}


def _holds_photos(figure: Figure) -> bool:
    # A picture in colours of its own has three axes; a matrix that a colour map colours has two.
    return any(np.ndim(np.asarray(image.get_array())) == 3 for axis in figure.axes for image in axis.images)


def new_figure(height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, NDArray]:
    """Make an empty figure as wide as the text; returns it with its axes, shape (rows, columns)."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def new_chart(height: float) -> tuple[Figure, Any]:
    """Make an empty figure as wide as the text; returns it with its only axis."""
    figure, axes = new_figure(height)
    return figure, axes[0, 0]


def new_grid(height: float, rows: int, columns: int, **options: Any) -> tuple[Figure, NDArray]:
    """Make a figure for pictures: as `new_figure`, with no axis to be seen; its height is that of a row."""
    figure, axes = new_figure(height * rows, rows, columns, **options)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes


def draw_boxes(axis: Axes, boxes: pd.DataFrame) -> None:
    """Outline boxes: ``xmin``, ``ymin``, ``xmax``, ``ymax`` in pixels, ``cell`` if they are not all of white cells."""
    for box in boxes.itertuples():
        size = (box.xmax - box.xmin, box.ymax - box.ymin)
        colour = BOX_COLOURS[getattr(box, "cell", "WBC")]
        axis.add_patch(Rectangle((box.xmin, box.ymin), *size, fill=False, lw=1.5, ec=colour))


def draw_missing(sentence: str) -> Figure:
    """Hold the place of a figure whose runs are not recorded, and say so."""
    figure, axis = new_chart(0.8)
    axis.set_axis_off()
    axis.text(0.5, 0.5, sentence, ha="center", va="center", color=GREY)
    return figure


def nice(cell: str) -> str:
    """Write a class or set name as a word: ``Neutrophil`` for ``NEUTROPHIL``."""
    return cell.capitalize()
