"""The final model for the page on which a reader tries a cell: a script with its weights, and a few drawn cells.

The page is ``book/try-a-cell.ipynb``; what runs it in the browser is in ``book/_static/try``.
"""

import base64
import json
from typing import Any

import cv2
import numpy as np

from wbc_lib.data.dataset import CLASSES, IMAGE_SIZE, LABELS
from wbc_lib.data.images import shrink
from wbc_lib.data.phantoms import QUALITY, draw_photo
from wbc_lib.data.windows import WHOLE_PHOTO
from wbc_lib.prediction.answers import find_guard
from wbc_lib.prediction.picture import ACCURACY, choose_threshold, find_run
from wbc_lib.training.runs import Run
from wbc_lib.training.study import Study

#: Where the script goes, from the folder of the book's sources.
PLACE = "_static/try/model.js"


def export(study: Study) -> bytes:
    """Write the script that gives the page its network: that of `prediction.find_run` for this study's results.

    JavaScript in ASCII that sets ``wbcModel``: a script can be loaded from a file, data cannot. Where no run is
    recorded it holds only the reason. Raises `RunError` if the run is damaged.
    """
    run = find_run(study.store, study.data_sha256)
    content = describe(run) if run else {"missing": "No run of the final model is recorded for this build."}
    return f"globalThis.wbcModel = {json.dumps(content)};\n".encode("ascii")


def describe(run: Run) -> dict[str, Any]:
    """All that a browser needs to ask a run's network, as values for JSON; raises `RunError` if it has no weights."""
    from wbc_lib.figures.style import CLASS_COLOURS, nice  # with seaborn, which workers of the build need not load

    weights, guard = run.weights(), find_guard(run)
    factor, offset = run.record["scale"]
    return {
        "run": run.name,
        "shape": run.record["config"]["input_shape"],
        "classes": [{"name": nice(c), "label": LABELS[c], "colour": CLASS_COLOURS[c]} for c in CLASSES],
        "accuracy": ACCURACY,
        "threshold": choose_threshold(run),
        "guard": guard.as_plain() | {"across": WHOLE_PHOTO.field[0]} if guard else None,
        "factor": factor,
        "offset": offset,
        "shapes": [list(w.shape) for w in weights],
        "weights": _to_base64(np.concatenate([w.ravel() for w in weights]).astype("<f4").tobytes()),
        "examples": [{"name": nice(c), "jpeg": _to_base64(draw_example(c))} for c in CLASSES],
    }


def draw_example(cell: str) -> bytes:
    """Draw a phantom of a class, as a JPEG of 320x240 like the data set's: never a patient's cell."""
    drawn = draw_photo((cell,), np.random.default_rng([0, LABELS[cell]]))
    small = shrink(drawn.image, IMAGE_SIZE[::-1])
    _, encoded = cv2.imencode(".jpeg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), QUALITY)
    return encoded.tobytes()


def _to_base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
