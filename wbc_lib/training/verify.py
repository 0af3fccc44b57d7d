"""Put recorded runs to the test: score their weights again, or train them again, and compare."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from wbc_lib import progress
from wbc_lib.data.dataset import DataSet
from wbc_lib.data.hashes import read_checksums
from wbc_lib.errors import RunError, WeightsError
from wbc_lib.training.arrays import gather
from wbc_lib.training.cluster import Job, train_in_process
from wbc_lib.training.plan import Plan
from wbc_lib.training.runs import Run, Store

#: Largest difference between logits that rounding on another processor may make when weights are scored again.
LOGIT_TOLERANCE = 1e-2
#: How far two trainings of the same plan on different processors may end apart in accuracy.
RETRAIN_TOLERANCE = 0.03


@dataclass(frozen=True)
class Comparison:
    """A recorded run beside its repetition."""

    name: str
    largest: float  # absolute difference between two logits, over validation and TEST
    same_class: float  # share of images whose likeliest class is the same
    recorded: float  # accuracies on TEST
    repeated: float

    def __str__(self) -> str:
        """One line for the command line."""
        return (
            f"{self.name}: logits differ by at most {self.largest:.2g}, same class for {self.same_class:.2%}, "
            f"TEST accuracy {self.recorded:.4f} recorded, {self.repeated:.4f} now"
        )


def rescore(run: Run, data: DataSet) -> Comparison:
    """Rebuild a run's network, load its recorded weights, and predict again.

    Raises `RunError` if the run has no weights or was made of other data.
    """
    from wbc_lib.training.fit import predict
    from wbc_lib.training.networks import assign_weights, build

    plan = _plan_of(run, data)
    material = gather(data, plan.experiment, plan.seed)
    model = build(plan.experiment.network, material.test.inputs.shape[1:], run.scale)
    assign_weights(model, run.weights())
    views = plan.experiment.settings.views
    logits = {part: predict(model, getattr(material, part).inputs, views) for part in ("validation", "test")}
    return _compare(run, logits, material.test.labels)


def retrain(run: Run, data: DataSet, threads: int = 0) -> Comparison:
    """Train a recorded run's plan again from nothing, aside from the store, and compare.

    TensorFlow's threads decide the bits: 0 for as many as are recorded. Raises `RunError` as `rescore` does.
    """
    plan = _plan_of(run, data)
    with TemporaryDirectory() as folder:
        store = Store(Path(folder))
        threads = threads or run.record["machine"].get("threads", 0)
        job = Job(plan, plan.key, data.root.resolve(), store.roots, threads)
        with progress.bar(plan.title) as on_progress:
            trained = train_in_process(job, lambda epoch: on_progress(epoch, plan.epochs))
        if isinstance(trained, WeightsError):
            raise trained
        again = store.add(*trained)
        logits = {part: again.logits(part) for part in ("validation", "test")}
        return _compare(run, logits, again.labels("test"))


def _plan_of(run: Run, data: DataSet) -> Plan:
    plan = run.plan
    if plan.data_sha256 != read_checksums(data).sha256:
        raise RunError(f"{run.name} was made of other data than {data.root}; name the right folder with --data.")
    if plan.key != run.key:
        raise RunError(f"{run.name} was made by an earlier version of the numerics; train it again with `wbc train`.")
    return plan


def _compare(run: Run, logits: dict[str, np.ndarray], labels: np.ndarray) -> Comparison:
    pairs = [(run.logits(part), logits[part]) for part in logits]
    same = np.concatenate([a.argmax(axis=1) == b.argmax(axis=1) for a, b in pairs])
    largest = max(float(np.abs(a - b).max()) for a, b in pairs)
    repeated = float((logits["test"].argmax(axis=1) == labels).mean())
    return Comparison(run.name, largest, float(same.mean()), run.accuracy("test"), repeated)
