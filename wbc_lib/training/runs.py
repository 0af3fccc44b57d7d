"""The store of runs: each in a folder of its own, found by its key, checked by its hashes.

A run folder holds ``history.csv``, ``predictions.npz``, perhaps ``weights.npz``, and ``run.json``, which is written
last, carries the hash of each of the others and one of itself, and makes the folder a run.
"""

import hashlib
import json
import os
import platform
import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.data.hashes import hash_file
from wbc_lib.data.images import Scale
from wbc_lib.errors import PlaceError, RunError
from wbc_lib.training.experiments import read_plan
from wbc_lib.training.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wbc_lib.training.arrays import Material
    from wbc_lib.training.fit import Fitted

_FORMAT = 1
#: Names of runs' folders, so that one whose record is lost is still known for one.
_NAME = re.compile(r"[^.].*-e\d+-s\d+-[0-9a-f]{12}")
_LIBRARIES = ("keras", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Run:
    """One recorded run: its folder, and the content of its ``run.json``."""

    folder: Path
    record: dict[str, Any]

    @property
    def key(self) -> str:
        """Hash of the configuration."""
        return self.record["key"]

    @property
    def name(self) -> str:
        """The folder's name: experiment, epochs, seed and the beginning of the key."""
        return self.folder.name

    @property
    def seed(self) -> int:
        """The seed."""
        return self.record["config"]["seed"]

    @property
    def epochs(self) -> int:
        """Epochs run."""
        return self.record["config"]["epochs"]

    @property
    def plan(self) -> Plan:
        """The plan that it carried out."""
        return read_plan(self.record["experiment"], self.record["config"])

    @property
    def scale(self) -> Scale | None:
        """What its network's first layer does to a pixel, if it has such a layer."""
        return self.record["scale"] and Scale(*map(tuple, self.record["scale"]))

    def describe(self) -> str:
        """How it went, for a line that names it."""
        best = self.history.val_accuracy.max()
        return f"{self.epochs} epochs in {self.record['seconds']:.0f} s, validation accuracy up to {best:.1%}"

    def _repr_html_(self) -> str:
        # What a notebook shows where a cell ends with a run.
        last = self.history[["accuracy", "val_accuracy"]].iloc[-1]
        return (
            f"<p><code>{self.name}</code>: {self.epochs} epochs in {self.record['seconds'] / 60:.1f} min; accuracy "
            f"{last.accuracy:.1%} in training, {last.val_accuracy:.1%} on validation, "
            f"{self.accuracy('test'):.1%} on TEST.</p>"
        )

    @cached_property
    def history(self) -> pd.DataFrame:
        """A row per epoch, as `training.Fitted.history`."""
        return pd.read_csv(self.folder / "history.csv")

    @cached_property
    def _predictions(self) -> dict[str, NDArray]:
        with np.load(self.folder / "predictions.npz", allow_pickle=False) as file:
            return dict(file)

    def labels(self, part: str) -> NDArray[np.int8]:
        """True labels (1 to 4) of "validation" or "test", shape (examples,)."""
        return self._predictions[f"{part}_labels"]

    def names(self, part: str) -> NDArray[np.str_]:
        """Images (or photos) that the examples of "validation" or "test" are, shape (examples,)."""
        return self._predictions[f"{part}_names"].astype(str)

    def logits(self, part: str) -> NDArray[np.float32]:
        """Logits of "validation" or "test", shape (examples, 5)."""
        return self._predictions[f"{part}_logits"]

    def probabilities(self, part: str) -> NDArray[np.float64]:
        """Probabilities of "validation" or "test", shape (examples, 5), rows summing to one."""
        from scipy.special import softmax

        return softmax(self.logits(part).astype(float), axis=1)

    def predicted(self, part: str) -> NDArray[np.int64]:
        """The likeliest label of each example, shape (examples,)."""
        return self.logits(part).argmax(axis=1)

    def accuracy(self, part: str) -> float:
        """Share of the examples of "validation" or "test" that are predicted right after the last epoch."""
        return float((self.predicted(part) == self.labels(part)).mean())

    def read_files(self) -> dict[str, bytes]:
        """The content of the run's files, by name."""
        return {name: (self.folder / name).read_bytes() for name in (*self.record["files"], "run.json")}

    def weights(self) -> list[NDArray[np.float32]]:
        """The trained weights, in Keras' order; raises `RunError` if this run was recorded without them."""
        if "weights.npz" not in self.record["files"]:
            raise RunError(
                f"{self.name} was recorded without weights; only runs of final, pbc and stronger keep theirs, and "
                "`wbc train final` makes one."
            )
        with np.load(self.folder / "weights.npz", allow_pickle=False) as file:
            return [file[name] for name in sorted(file.files)]


class Store:
    """Runs in one or more folders; the first is written to, all are read."""

    def __init__(self, *roots: Path):
        self.roots = roots

    def find(self, plan: Plan) -> Run | None:
        """The run of a plan, if it is here and whole.

        Raises `RunError` if it is damaged, and `PlaceError` if it is nowhere and one of the folders cannot be read.
        """
        unread, key = None, plan.key
        for root in self.roots:
            try:
                folders = [folder for folder in _list_folders(root) if folder.name.endswith(f"-{key[:12]}")]
            except OSError as error:  # it may be in another
                unread = PlaceError(paths.explain(error, root))
                continue
            for folder in folders:
                run = read(folder)
                if run.key == key:
                    return run
        if unread:
            raise unread
        return None

    def read_all(self, beginning: str = "") -> list[Run]:
        """All runs whose names begin so, by name; raises `RunError` if one of them is damaged."""
        found: dict[str, Path] = {}
        for root in self.roots[::-1]:
            with paths.place(root):
                found |= _list_runs(root)
        return [read(found[name]) for name in sorted(found) if name.startswith(beginning)]

    def whole(self) -> list[Run]:
        """All whole runs, by name."""
        return [run for run, _ in self._examined() if run]

    def damaged(self) -> list[str]:
        """A sentence for every damaged run, and for every folder that cannot be read."""
        return [problem for _, problem in self._examined() if problem]

    def _examined(self) -> "Iterator[tuple[Run | None, str | None]]":
        found: dict[str, Path] = {}
        for root in self.roots[::-1]:
            try:
                found |= _list_runs(root)
            except OSError as error:
                yield None, paths.explain(error, root)
        for name in sorted(found):  # a run that is in several folders is one run
            try:
                yield read(found[name]), None
            except RunError as error:
                yield None, str(error)

    def checkpoint(self, plan: Plan) -> Path:
        """Where an unfinished training of this plan keeps its state."""
        return self.roots[0] / ".unfinished" / f"{plan.key}.npz"

    @contextmanager
    def lock(self, plan: Plan) -> "Iterator[None]":
        """Hold the right to train this plan; another process that asks waits here."""
        path = self.checkpoint(plan).with_suffix(".lock")
        with ExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(path))
            except OSError as error:
                raise RunError(paths.explain(error, self.roots[0])) from error
            yield

    def keep(self, run: Run) -> Run:
        """Copy a run that was found in another folder to the one that is written to."""
        return run if run.folder.parent == self.roots[0] else self.add(run.name, run.read_files())

    def add(self, name: str, files: dict[str, bytes]) -> Run:
        """Write the files of a run that was made elsewhere, unless it is here already."""
        target = self.roots[0] / name
        with paths.place(self.roots[0]):
            if target.exists():
                return read(target)
            with paths.temporary_folder(target) as temporary:
                for file, content in files.items():
                    (temporary / file).write_bytes(content)
                try:
                    temporary.rename(target)
                except OSError:
                    if not target.exists():
                        raise  # else another process was quicker
        return read(target)

    def write(self, plan: Plan, fitted: "Fitted", material: "Material", *, keep_weights: bool) -> Run:
        """Record a finished training, whole or not at all; raises `RunError` if the folder cannot be written to."""
        root = self.roots[0]
        target = root / f"{plan.experiment.name}-e{plan.epochs}-s{plan.seed}-{plan.key[:12]}"
        try:
            with paths.temporary_folder(target) as temporary:
                _write_files(temporary, fitted, material, keep_weights)
                record = _describe(plan, fitted, material)
                record["files"] = {p.name: hash_file(p) for p in sorted(temporary.iterdir())}
                record["sha256"] = _seal(record)
                paths.write_text(temporary / "run.json", json.dumps(record, indent=1) + "\n")
                temporary.rename(target)
        except OSError as error:
            raise RunError(
                f"{target.name} could not be written. {paths.explain(error, root)} The training itself is kept, for "
                "when it is asked for again."
            ) from error
        self.checkpoint(plan).unlink(missing_ok=True)
        return read(target)


def read(folder: Path) -> Run:
    """Read a run; raises `RunError` if a file is missing or is not what its hash says."""
    remedy = f"restore {folder} (`git checkout`) or delete it to train anew"
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        sealed = record.pop("sha256")
        if record["format"] != _FORMAT or _seal(record) != sealed:
            raise ValueError
        files = record["files"]
        for name, digest in files.items():
            path = folder / name
            if not path.is_file():
                raise RunError(f"Run {folder.name} lacks its {name}; {remedy}.")
            if hash_file(path) != digest:
                raise RunError(f"{name} of run {folder.name} is not what was recorded; {remedy}.")
    except PermissionError as error:
        raise RunError(f"The record of run {folder.name} may not be read; see to the rights of {folder}.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"The record of run {folder.name} is damaged; {remedy}.") from error
    return Run(folder, record)


def _list_folders(root: Path) -> list[Path]:
    # Unlike a glob, which finds nothing where it may not look.
    try:
        with os.scandir(root) as entries:
            return sorted(root / entry.name for entry in entries if not entry.name.startswith("."))
    except FileNotFoundError:
        return []


def _list_runs(root: Path) -> dict[str, Path]:
    # A folder that is named as a run and has lost its record is a damaged run.
    return {p.name: p for p in _list_folders(root) if _NAME.fullmatch(p.name) or _holds_record(p)}


def _holds_record(folder: Path) -> bool:
    try:
        (folder / "run.json").stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # `read` says why
    return True


def _seal(record: dict[str, Any]) -> str:
    plain = json.dumps({k: v for k, v in record.items() if k != "sha256"}, sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()


def _write_files(folder: Path, fitted: "Fitted", material: "Material", keep_weights: bool) -> None:
    fitted.history.to_csv(folder / "history.csv", index=False)
    np.savez_compressed(
        folder / "predictions.npz",
        validation_logits=fitted.validation_logits,
        validation_labels=material.validation.labels.astype(np.int8),
        validation_names=material.validation.names.astype("S"),
        test_logits=fitted.test_logits,
        test_labels=material.test.labels.astype(np.int8),
        test_names=material.test.names.astype("S"),
    )
    if keep_weights:
        weights: dict[str, Any] = {f"w{i:03d}": w for i, w in enumerate(fitted.weights)}
        np.savez_compressed(folder / "weights.npz", **weights)


def _describe(plan: Plan, fitted: "Fitted", material: "Material") -> dict[str, Any]:
    import tensorflow as tf  # what has just trained has loaded it

    code = sorted(paths.LIBRARY.rglob("*.py"))
    # TensorFlow's threads decide the bits of a result, so `wbc runs retrain` needs their number.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "format": _FORMAT,
        "key": plan.key,
        "experiment": plan.experiment.name,
        "config": plan.config,
        "scale": None if fitted.scale is None else [list(fitted.scale.factor), list(fitted.scale.offset)],
        "parameters": int(sum(w.size for w in fitted.weights)),
        "examples": {part: len(getattr(material, part)) for part in ("training", "validation", "test")},
        "seconds": round(float(fitted.history.seconds.sum()), 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_sha256": hashlib.sha256(b"".join(path.read_bytes() for path in code)).hexdigest(),
        "libraries": {
            "tensorflow": tf.__version__,  # its package may be tensorflow-cpu as well
            **{name: metadata.version(name) for name in _LIBRARIES},
            "python": platform.python_version(),
        },
        "machine": {
            "system": platform.system(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": int(os.environ.get("TF_NUM_INTRAOP_THREADS") or 0) or cores or 1,
        },
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
