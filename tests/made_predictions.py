"""Predictions made up for tests: copies of photos, told right more or less often."""

from types import SimpleNamespace

import numpy as np

from wbc_lib.evaluation.calibration import Predictions


def make(n_photos: int = 24, copies: int = 6, seed: int = 0, *, alike: float = 2.0) -> Predictions:
    """Predictions of photos of all four classes in turn; copies of one photo share most of what moves their logits."""
    rng = np.random.default_rng(seed)
    photos = np.repeat(np.arange(n_photos) + 100, copies)
    labels = np.repeat(np.arange(n_photos) % 4 + 1, copies)
    shared = np.repeat(rng.normal(0, alike, (n_photos, 5)), copies, axis=0)
    logits = shared + rng.normal(0, 1, (len(photos), 5)) + 2.5 * np.eye(5)[labels]
    order = rng.permutation(len(photos))
    return Predictions(labels[order], logits[order], photos[order])


def made_run(names, labels, predicted=None, probabilities=None) -> SimpleNamespace:
    """As much of a run as is scored: the same images, labels and answers in every part."""
    answers = {"names": names, "labels": labels, "predicted": predicted, "probabilities": probabilities}
    return SimpleNamespace(**{name: lambda part, of=of: np.asarray(of) for name, of in answers.items()})
