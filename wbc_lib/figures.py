"""Figures of the book: data in, a matplotlib Figure out. Nothing here trains or reads files."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray
from PIL import Image

from wbc_lib.photos import CLASSES

#: A colour per class, the same on every page (Okabe and Ito's palette, safe for colour-blind readers).
CLASS_COLOURS = dict(zip(CLASSES, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=True))
TRAINING, VALIDATION, TEST, PAPER, GREY = "#E69F00", "#0072B2", "#000000", "#999999", "#666666"
NEW_PHOTO = "#009E73"
BOX_COLOURS = {"WBC": "#D55E00", "RBC": "#56B4E9", "Platelets": "#F0E442"}
#: Width of the text column, in inches.
WIDTH = 7.2

_STYLE = {
    "figure.facecolor": "white",
    "figure.dpi": 110,
    "savefig.dpi": 220,
    "savefig.bbox": "tight",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
}


def use_style() -> None:
    """Apply the book's look to every figure drawn from now on, and let a notebook show figures as pictures."""
    import matplotlib as mpl
    from IPython import get_ipython

    mpl.rcParams.update(_STYLE)
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

    Parameters
    ----------
    figure : Figure
    scale : int
        Pixels in either direction for each of the size it is shown at; fine screens have two.
    colours : int
        At most; 256 or fewer.

    Returns
    -------
    tuple of str and dict
        The PNG in base64; ``width`` and ``height`` it is shown at, in pixels.
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
    return any(np.ndim(image.get_array()) == 3 for axis in figure.axes for image in axis.images)


def new_figure(height: float, rows: int = 1, columns: int = 1, **options: object) -> tuple[Figure, NDArray]:
    """Make an empty figure as wide as the text; returns it with its axes, shape (rows, columns)."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def draw_missing(sentence: str) -> Figure:
    """Hold the place of a figure whose runs are not recorded, and say so."""
    figure, axes = new_figure(0.8)
    axes[0, 0].set_axis_off()
    axes[0, 0].text(0.5, 0.5, sentence, ha="center", va="center", color=GREY)
    return figure


def nice(cell: str) -> str:
    """Write a class or set name as a word: ``Neutrophil`` for ``NEUTROPHIL``."""
    return cell.capitalize()


def draw_cells(images: Mapping[str, Sequence[NDArray[np.uint8]]]) -> Figure:
    """Show images of each class, a row a class.

    Parameters
    ----------
    images : mapping of str to sequence of ndarray of uint8, shape (height, width, RGB)
        By class name.
    """
    columns = max(len(row) for row in images.values())
    figure, axes = new_figure(1.25 * len(images), len(images), columns)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, (cell, pictures) in zip(axes, images.items(), strict=True):
        for axis, picture in zip(row, pictures, strict=False):
            axis.imshow(picture, interpolation="nearest")
        row[0].set_title(nice(cell), loc="left", color=CLASS_COLOURS.get(cell, "black"), fontweight="bold")
    return figure


def draw_photos(photos: Sequence[tuple[str, NDArray[np.uint8], pd.DataFrame]]) -> Figure:
    """Show photos with their boxes.

    Parameters
    ----------
    photos : sequence of (title, image, boxes)
        Image: uint8 (height, width, RGB). Boxes: as `photos.parse_boxes` gives them.
    """
    columns = min(2, len(photos))
    rows = -(-len(photos) // columns)
    figure, axes = new_figure(2.9 * rows, rows, columns)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (title, image, boxes) in zip(axes.flat, photos, strict=False):
        axis.imshow(image)
        axis.set_title(title, loc="left")
        for box in boxes.itertuples():
            size = (box.xmax - box.xmin, box.ymax - box.ymin)
            axis.add_patch(Rectangle((box.xmin, box.ymin), *size, fill=False, lw=1.4, ec=BOX_COLOURS[box.cell]))
    handles = [Patch(fill=False, ec=colour, label=cell) for cell, colour in BOX_COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def draw_balance(counts: pd.DataFrame) -> Figure:
    """Show how many pictures each class has, a panel per data set.

    Parameters
    ----------
    counts : DataFrame
        A row per class, a column per data set.
    """
    figure, axes = new_figure(0.36 * len(counts) + 0.9, 1, counts.shape[1], sharey=True)
    for axis, (name, column) in zip(axes[0], counts.items(), strict=True):
        colours = [CLASS_COLOURS.get(cell, GREY) for cell in column.index]
        bars = axis.barh([nice(cell) for cell in column.index], column.to_numpy(), color=colours)
        axis.bar_label(bars, [f"{n:,.0f}" for n in column], padding=3)
        axis.set_title(name)
        axis.margins(x=0.2)
        axis.grid(axis="y", visible=False)
    axes[0, 0].invert_yaxis()
    return figure


def draw_side_by_side(pictures: Mapping[str, NDArray[np.uint8]]) -> Figure:
    """Show pictures beside each other at the same size, each pixel as a square."""
    figure, axes = new_figure(0.8 * WIDTH / len(pictures) + 0.3, 1, len(pictures))
    for axis, (title, picture) in zip(axes[0], pictures.items(), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title)
        axis.set_axis_off()
    return figure


def draw_histogram(values: Mapping[str, NDArray], xlabel: str) -> Figure:
    """Show how values are distributed, an outline per name."""
    figure, axes = new_figure(2.4)
    for (name, sample), colour in zip(values.items(), ("#D55E00", "#009E73", "#0072B2", GREY), strict=False):
        axes[0, 0].hist(np.ravel(sample), bins=80, histtype="step", density=True, lw=1.5, color=colour, label=name)
    axes[0, 0].set(xlabel=xlabel, ylabel="density")
    axes[0, 0].legend()
    return figure


def draw_curves(
    histories: Sequence[pd.DataFrame],
    paper_training: float | None = None,
    paper_validation: float | None = None,
) -> Figure:
    """Show accuracy and loss over the epochs, as the paper's Figure 2: mean over seeds, with their range.

    Parameters
    ----------
    histories : sequence of DataFrame
        One per seed, as `training.Fitted.history`.
    paper_training, paper_validation : float, optional
        The paper's peaks, drawn as dotted lines.
    """
    figure, axes = new_figure(2.9, 1, 2)
    for axis, value in zip(axes[0], ("accuracy", "loss"), strict=True):
        _draw_band(axis, histories, value, "training", TRAINING)
        _draw_band(axis, histories, f"val_{value}", "validation", VALIDATION)
        axis.set(xlabel="epoch", ylabel=value)
    for peak, colour, part in (
        (paper_training, TRAINING, "training"), (paper_validation, VALIDATION, "validation"),
    ):  # fmt: skip
        if peak is not None:
            axes[0, 0].axhline(peak, ls=":", color=colour, label=f"paper's peak, {part}")
    axes[0, 0].set_ylim(0, 1.02)
    axes[0, 1].set_ylim(0, None)
    axes[0, 0].legend(loc="lower right", fontsize=8)
    return figure


def draw_multiples(
    histories: Mapping[str, Sequence[pd.DataFrame]], test: Mapping[str, Sequence[float]] | None = None, columns: int = 4
) -> Figure:
    """Show the accuracy curves of many experiments on one scale, a small panel each.

    Parameters
    ----------
    histories : mapping of str to sequence of DataFrame
        By title, one per seed, as `training.Fitted.history`.
    test : mapping of str to sequence of float, optional
        TEST accuracies after the last epoch, by the same titles: marked at the end of the curves.
    columns : int
        Most panels in a row.
    """
    columns = min(columns, len(histories))
    rows = -(-len(histories) // columns)
    figure, axes = new_figure(1.75 * rows + 0.3, rows, columns, sharex=True, sharey=True)
    for axis in axes.flat[len(histories) :]:
        axis.set_axis_off()
    for axis, (title, some) in zip(axes.flat, histories.items(), strict=False):
        _draw_band(axis, some, "accuracy", "training", TRAINING)
        _draw_band(axis, some, "val_accuracy", "validation", VALIDATION)
        if test:
            last = [int(h.epoch.iloc[-1]) for h in some]
            axis.plot(last, test[title], "D", color=TEST, ms=5, ls="", label="TEST", clip_on=False)
        axis.set_title(title, fontsize=8)
        axis.set_ylim(0, 1.02)
    for axis in axes.flat[max(0, len(histories) - columns) : len(histories)]:
        axis.tick_params(labelbottom=True)  # the lowest panel of each column, whether or not its row is full
        axis.set_xlabel("epoch")
    axes[0, 0].legend(loc="lower right", fontsize=7)
    return figure


def _draw_band(axis: Axes, histories: Sequence[pd.DataFrame], value: str, label: str, colour: str) -> None:
    table = pd.concat([h.set_index("epoch")[value] for h in histories], axis=1)
    axis.plot(table.index, table.mean(axis=1), color=colour, label=label, lw=1.6)
    if table.shape[1] > 1:
        axis.fill_between(table.index, table.min(axis=1), table.max(axis=1), color=colour, alpha=0.2, lw=0)


def draw_confusion(matrices: Mapping[str, NDArray[np.integer]]) -> Figure:
    """Show confusion matrices side by side: counts, coloured by their share of the true class.

    Parameters
    ----------
    matrices : mapping of str to ndarray of int, shape (4, 4) or (4, 5)
        By title. A fifth column, the predictions of the class that is none, is shown only if it is not empty.
    """
    figure, axes = new_figure(0.62 * WIDTH if len(matrices) > 1 else 4.2, 1, len(matrices))
    for axis, (title, matrix) in zip(axes[0], matrices.items(), strict=True):
        shown = matrix if matrix.shape[1] > len(CLASSES) and matrix[:, -1].any() else matrix[:, : len(CLASSES)]
        shares = shown / np.maximum(shown.sum(axis=1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(shown):
            colour = "white" if shares[row, column] > 0.55 else "black"
            text = f"{count:,.0f}\n{shares[row, column]:.0%}"
            axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
        names = [nice(cell)[:5] + "." for cell in CLASSES] + ["none"] * (shown.shape[1] - len(CLASSES))
        axis.set_xticks(range(shown.shape[1]), names)
        axis.set_yticks(range(len(CLASSES)), [nice(cell)[:5] + "." for cell in CLASSES])
        axis.set(title=title, xlabel="predicted", ylabel="true")
        axis.grid(visible=False)
    return figure


def draw_summary(table: pd.DataFrame) -> Figure:
    """Show training, validation and TEST accuracy of every experiment, and the paper's where it gives them.

    Parameters
    ----------
    table : DataFrame
        Indexed by title; columns ``training``, ``validation``, ``test``, ``new_photo`` and ``paper_training``,
        ``paper_validation``, ``paper_test``, 0 to 1 or NaN. Rows without figures of ours are marked "not run".
    """
    figure, axes = new_figure(0.36 * len(table) + 1.1)
    axis = axes[0, 0]
    rows = np.arange(len(table))
    for name, colour, marker in (
        ("training", TRAINING, "o"),
        ("validation", VALIDATION, "o"),
        ("test", TEST, "D"),
    ):
        label = "TEST" if name == "test" else name
        axis.plot(
            table[f"paper_{name}"],
            rows + 0.17,
            marker,
            mfc="none",
            color=colour,
            ms=6,
            ls="",
            label=f"{label}, paper",
        )
        axis.plot(table[name], rows - 0.1, marker, color=colour, ms=6, ls="", label=f"{label}, measured")
    if table.new_photo.notna().any():
        axis.plot(table.new_photo, rows - 0.1, "*", color=NEW_PHOTO, ms=11, ls="", label="new photo, measured")
    for row, missing in enumerate(table.training.isna()):
        if missing:
            axis.text(0.02, row, "not run here", color=GREY, va="center", fontsize=8)
    axis.axvline(0.25, color=GREY, ls=":", lw=1)
    axis.text(0.25, -0.75, " chance", color=GREY, fontsize=8)
    axis.set_yticks(rows, table.index)
    axis.set(xlim=(0, 1.01), ylim=(len(table) - 0.4, -0.9), xlabel="accuracy")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def draw_dots(table: pd.DataFrame, xlabel: str) -> Figure:
    """Show a few values per row as dots on one line, a colour a column: for comparisons of a handful of figures."""
    figure, axes = new_figure(0.36 * len(table) + 0.9)
    axis = axes[0, 0]
    for (name, column), colour in zip(table.items(), (PAPER, "#0072B2", "#D55E00", "#009E73"), strict=False):
        axis.plot(column.to_numpy(), range(len(table)), "o", color=colour, label=name, ms=7)
    axis.set_yticks(range(len(table)), table.index)
    axis.set(xlabel=xlabel, ylim=(len(table) - 0.5, -0.5))
    axis.legend(fontsize=8)
    return figure


def draw_parts(sizes: Mapping[str, Sequence[int]]) -> Figure:
    """Show how large the training, validation and TEST parts are, a stacked bar per unit.

    Parameters
    ----------
    sizes : mapping of str to sequence of int
        By unit ("images", "photos"): training, validation, TEST. A validation of 0 means that this part shares its
        units with training.
    """
    figure, axes = new_figure(2.1, len(sizes), 1)
    for axis, (unit, (training, validation, test)) in zip(axes[:, 0], sizes.items(), strict=True):
        left = 0
        shared = "training and validation" if not validation else "training"
        parts = ((shared, training, TRAINING), ("validation", validation, VALIDATION), ("TEST", test, TEST))
        for name, size, colour in parts:
            if size:
                axis.barh([unit], [size], left=left, color=colour, edgecolor="white")
                colour_of_text = "black" if colour == TRAINING else "white"
                axis.text(
                    left + size / 2, 0, f"{name}\n{size:,}", ha="center", va="center", color=colour_of_text, fontsize=8
                )
            left += size
        axis.set_xlim(0, left)
        axis.set_xticks([])
        axis.grid(visible=False)
        axis.spines["bottom"].set_visible(False)
    return figure
