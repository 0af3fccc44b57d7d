"""Measure how well `wbc leak` finds what was made from one source, against what near-duplicate finders use.

    python benchmarks/leak.py --data DIR --pbc DIR [--only images,pbc,baselines] [--record]

With ``--record`` the figures go to ``results/leak/record.json``, from which a chapter is made. Thresholds of the
library were chosen on other sources of PBC than those measured here (the first half of a permutation), and on TRAIN.
"""

import argparse
import io
import json
import os
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from wbc_lib import paths
from wbc_lib.data.dataset import CLASSES, list_photos, open_folder
from wbc_lib.data.splits import split_at_random, split_by_group
from wbc_lib.provenance import overlaps, trace
from wbc_lib.provenance.siblings import find_siblings

RECORD = paths.results() / "leak" / "record.json"
SOURCES, COPIES, SAMPLE = 400, 5, 1500


def count_pairs(groups: NDArray) -> int:
    """Pairs of rows with one number."""
    counts = np.unique(groups, return_counts=True)[1].astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def score_groups(groups: NDArray, truth: NDArray) -> dict[str, float]:
    """Pairwise precision and recall of groups."""
    right = count_pairs(pd.factorize(pd.MultiIndex.from_arrays([groups, truth]))[0])
    return {"precision": right / max(count_pairs(groups), 1), "recall": right / count_pairs(truth)}


def timed(pictures: list) -> tuple[pd.DataFrame, dict[str, float]]:
    """Find the siblings of pictures; the table and how long it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = find_siblings(pictures)
    used = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    return found.table, used | {"pictures": len(pictures), "cannot_tell": int(found.cannot_tell.sum())}


def name_leaks(table: pd.DataFrame, is_held_back: NDArray[np.bool_], column: str) -> float:
    """Share of the images held back that share a number with one that is not."""
    return float(table[column][is_held_back].isin(table[column][~is_held_back]).mean())


def measure_images(data_folder: str) -> dict[str, object]:
    """All published images without their photos, and three ways of splitting them."""
    data, traced = open_folder(data_folder), trace.read_recorded()
    listed = traced[~traced.image.str.startswith("TEST_SIMPLE")].reset_index(drop=True)
    fields = overlaps.group(list_photos(data), overlaps.read_recorded())
    table, used = timed([data.image_path(image) for image in listed.image])
    photo, field = listed.photo.to_numpy(), fields.loc[listed.photo].to_numpy()
    is_train = listed.image.str.startswith("TRAIN").to_numpy()
    labels = listed.image.str.split("/").str[1].map(CLASSES.index).to_numpy()
    splits = {"TRAIN against TEST": (np.ones(len(listed), bool), ~is_train)}
    train = np.flatnonzero(is_train)
    by_photo = split_by_group(labels[train], photo[train], 1, 5, 0).validation
    for name, rows in (("random", split_at_random(len(train), 0.2, 0).validation), ("by photo", by_photo)):
        held = np.zeros(len(listed), bool)
        held[train[rows]] = True
        splits[name] = (is_train, held)
    leaks = {}
    for name, (chosen, held) in splits.items():
        part, back = table[chosen], held[chosen]
        truly = pd.DataFrame({"photo": photo[chosen], "shared": field[chosen]})
        leaks[name] = {
            "held_back": int(back.sum()),
            "siblings": name_leaks(part.reset_index(drop=True), back, "group"),
            "with_overlaps": name_leaks(part.reset_index(drop=True), back, "field"),
            "truly_siblings": name_leaks(truly, back, "photo"),
            "truly_with_overlaps": name_leaks(truly, back, "shared"),
        }
    together = table.field.to_numpy()
    return {
        **used,
        "apart": score_groups(table.group.to_numpy(), photo),
        "together": score_groups(together, field),
        "groups": int(table.group.nunique()),
        "photos": int(len(set(photo))),
        "splits": leaks,
    }


def make_copy(picture: Image.Image, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn, mirror, crop, brighten, scale and compress a picture, with Pillow."""
    moved = picture.rotate(rng.uniform(0, 360), Image.Resampling.BICUBIC)
    moved = ImageOps.mirror(moved) if rng.random() < 0.5 else moved
    share = rng.uniform(0.7, 1)
    width, height = (round(side * share) for side in moved.size)
    left, top = rng.integers(moved.width - width + 1), rng.integers(moved.height - height + 1)
    moved = moved.crop((left, top, left + width, top + height))
    moved = ImageEnhance.Brightness(moved).enhance(rng.uniform(0.7, 1.3))
    moved = ImageEnhance.Contrast(moved).enhance(rng.uniform(0.7, 1.3))
    scale = 2 ** rng.uniform(-1, 1)
    moved = moved.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    coded = io.BytesIO()
    moved.save(coded, "JPEG", quality=50)
    return np.array(Image.open(coded))


def make_pbc(folder: str) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
    """Copies of sources of PBC that chose nothing."""
    files = sorted(Path(folder).glob("*/*.jpg"))
    order = np.random.default_rng(7).permutation(len(files))
    sources = order[len(files) // 2 :][:SOURCES]  # thresholds were chosen on the first half
    rng = np.random.default_rng(11)
    pictures = []
    for source in sources:
        original = Image.open(files[source]).convert("RGB")
        pictures += [make_copy(original, rng) for _ in range(COPIES)]
    return pictures, np.repeat(sources, COPIES)


def measure_pbc(folder: str) -> dict[str, object]:
    """Copies made from PBC."""
    pictures, truth = make_pbc(folder)
    table, used = timed(pictures)
    return {
        **used,
        "sources": SOURCES,
        "apart": score_groups(table.group.to_numpy(), truth),
        "together": score_groups(table.field.to_numpy(), truth),
    }


def recall_at(likeness: NDArray[np.float32], truth: NDArray, precision: float) -> float:
    """Largest share of the true pairs that a threshold on their likeness finds at a precision."""
    first, second = np.triu_indices(len(truth), 1)
    values, right = likeness[first, second], truth[first] == truth[second]
    order = np.argsort(-values, kind="stable")
    values, right = values[order], np.cumsum(right[order])
    ends = np.flatnonzero(np.append(values[1:] != values[:-1], True))  # what is equally alike is taken together
    good = right[ends] / (ends + 1) >= precision
    return float(right[ends][good].max(initial=0) / right[-1])


def hash_likeness(pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Equal bits of perceptual hashes: signs, about the median, of the 8 x 8 slowest waves of 32 x 32 pixels."""
    bits = []
    for picture in pictures:
        grey = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
        waves = cv2.dct(grey.astype(np.float32))[:8, :8].ravel()
        bits.append(np.where(waves > np.median(waves), 1.0, -1.0))
    return (np.array(bits) @ np.array(bits).T).astype(np.float32)


def network_likeness(pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Cosine of the mean last maps of EfficientNet-Lite0 with ImageNet weights."""
    from wbc_lib.training import efficientnet

    model = efficientnet.build((224, 224))
    efficientnet.load_imagenet(model)
    features = []
    for i in range(0, len(pictures), 32):
        batch = [cv2.resize(p, (224, 224), interpolation=cv2.INTER_AREA) for p in pictures[i : i + 32]]
        features.append(np.asarray(model.predict_on_batch(np.array(batch, np.float32))).mean(axis=(1, 2)))
    values = np.concatenate(features)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values @ values.T


def measure_baselines(data_folder: str, pbc: str) -> dict[str, object]:
    """Share of pairs found at 99 % precision, on TRAIN images and on the copies of PBC."""
    data, traced = open_folder(data_folder), trace.read_recorded()
    train = traced[traced.image.str.startswith("TRAIN")]
    chosen = train.iloc[np.sort(np.random.default_rng(0).permutation(len(train))[:SAMPLE])]
    ours = [cv2.imread(str(data.image_path(image)), cv2.IMREAD_COLOR_RGB) for image in chosen.image]
    sets = {"images": (ours, chosen.photo.to_numpy()), "pbc": make_pbc(pbc)}
    measured: dict[str, object] = {}
    for name, (pictures, truth) in sets.items():
        measured[name] = {
            "pictures": len(pictures),
            "hash": recall_at(hash_likeness(pictures), truth, 0.99),
            "network": recall_at(network_likeness(pictures), truth, 0.99),
        }
    return measured


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--pbc", required=True)
    parser.add_argument("--only", default="pbc,baselines,images")
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    parts = {
        "images": lambda: measure_images(asked.data),
        "pbc": lambda: measure_pbc(asked.pbc),
        "baselines": lambda: measure_baselines(asked.data, asked.pbc),
    }
    for name in asked.only.split(","):
        record[name] = parts[name]() | {"cores": os.cpu_count(), "opencv": cv2.__version__}
        print(name, json.dumps(record[name], indent=1), flush=True)
        if asked.record:
            paths.write_text(RECORD, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
