"""Runs that were not trained, with curves and answers that are drawn, or with a record that was changed."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from wbc_lib.training import arrays
from wbc_lib.training.fit import Fitted
from wbc_lib.training.plan import vary
from wbc_lib.training.runs import Run, read
from wbc_lib.training.study import Study


def record_drawn(study: Study, name: str, seed: int, rng: np.random.Generator) -> Run:
    """Record a run of an experiment, with the names and labels that it would have, and answers that lean to these."""
    plan = study.plan(name, seed)
    material = arrays.gather(study.data, vary(plan.experiment, base="", base_weights=""), seed)
    curves = {column: rng.random(plan.epochs) for column in ("loss", "accuracy", "val_loss", "val_accuracy")}
    history = pd.DataFrame({"epoch": range(1, plan.epochs + 1), **curves, "seconds": 1.0})
    logits = [rng.normal(2 * np.eye(5)[part.labels]) for part in (material.validation, material.test)]
    fitted = Fitted(history, [np.ones(1000, np.float32)], None, *map(np.float32, logits))
    return study.store.write(plan, fitted, material, keep_weights=False)


def change_record(folder: Path, **changes: object) -> Run:
    """Change what is recorded of a run and make its own hash agree again, as a cheat would."""
    record = json.loads((folder / "run.json").read_text()) | changes
    del record["sha256"]
    record["sha256"] = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    (folder / "run.json").write_text(json.dumps(record))
    return read(folder)
