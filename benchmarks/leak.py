"""Measure how well `wbc leak` finds what was made from one source, against what near-duplicate finders use.

    python benchmarks/leak.py --data DIR --pbc DIR [--only pbc,images,growth,rivals] [--record]

With ``--record`` the figures go to ``results/leak/record.json``, from which a chapter is made. Thresholds of the
library were chosen on TRAIN and on other sources of PBC than those measured here (the first half of a permutation).

It may be stopped at any time (``timeout 500 python benchmarks/leak.py ...``) and goes on where it stopped, in
``_build/leak``. Seconds of all parts are added up. On a machine that does other work, too, the seconds of the processor
are what can be compared.
"""

import argparse
import itertools
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections import Counter
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
FOLDER = paths.BUILD / "leak"
SOURCES, COPIES = 2000, 5
#: Pictures of the comparison with other ways, and of the search at several sizes (multiples of what is cached at once).
SAMPLE, SIZES = 1536, (1536, 3072, 6144)


class Meter:
    """Seconds by stage of the work, of the processor and of the clock, over all parts of a search."""

    def __init__(self, name: str):
        self.path = FOLDER / f"{name}.json"
        kept = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.cpu, self.wall = Counter(kept.get("cpu", {})), Counter(kept.get("wall", {}))
        self.loads, self.peak = kept.get("loads", []), kept.get("peak", 0)
        self.stage, self.last = "Reading", (time.process_time(), time.perf_counter())

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, *_: object) -> None:
        self(self.stage)
        self.loads.append(round(os.getloadavg()[1], 1))
        self.peak = max(self.peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        kept = {"cpu": self.cpu, "wall": self.wall, "loads": self.loads, "peak": self.peak}
        paths.write_text(self.path, json.dumps(kept))

    def __call__(self, stage: str, *_: int) -> None:
        """Count the time since the last call for the stage that was under way."""
        now = time.process_time(), time.perf_counter()
        self.cpu[self.stage] += now[0] - self.last[0]
        self.wall[self.stage] += now[1] - self.last[1]
        self.stage, self.last = stage, now

    def tell(self) -> dict[str, object]:
        """What is recorded."""
        return {
            "cpu_seconds": round(sum(self.cpu.values())),
            "cpu_by_stage": {stage: round(seconds, 1) for stage, seconds in self.cpu.items()},
            "wall_seconds": round(sum(self.wall.values())),
            "parts": len(self.loads),
            "load": float(np.mean(self.loads)),
            "peak_gigabytes": round(self.peak / 1e9, 2),
        }


def count_pairs(groups: NDArray) -> int:
    """Pairs of rows with one number."""
    counts = np.unique(groups, return_counts=True)[1].astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def score_groups(groups: NDArray, truth: NDArray) -> dict[str, float]:
    """Pairwise precision and recall of groups, and the pairs that they are shares of."""
    right = count_pairs(pd.factorize(pd.MultiIndex.from_arrays([groups, truth]))[0])
    found, all_pairs = count_pairs(groups), count_pairs(truth)
    return {"precision": right / max(found, 1), "recall": right / all_pairs, "found": found, "pairs": all_pairs}


def search(name: str, pictures: list[Path], cache: Path | None = None) -> tuple[pd.DataFrame, dict[str, object]]:
    """Find the siblings of pictures; the table and what it took."""
    with Meter(name) as meter:
        found = find_siblings(pictures, cache=cache or FOLDER / "cache", on_stage=meter)
    return found.table, meter.tell() | {"pictures": len(pictures), "cannot_tell": int(found.cannot_tell.sum())}


def list_images(data_folder: str) -> tuple[pd.DataFrame, list[Path]]:
    """The published images of TRAIN and TEST in a random order, with photo and field of view."""
    data, traced = open_folder(data_folder), trace.read_recorded()
    listed = traced[~traced.image.str.startswith("TEST_SIMPLE")].sample(frac=1, random_state=0, ignore_index=True)
    fields = overlaps.group(list_photos(data), overlaps.read_recorded())
    listed["field"] = fields.loc[listed.photo].to_numpy()
    return listed, [data.image_path(image) for image in listed.image]


def name_leaks(groups: NDArray, is_held_back: NDArray[np.bool_]) -> float:
    """Share of the images held back that share a number with one that is not."""
    return float(np.isin(groups[is_held_back], groups[~is_held_back]).mean())


def list_joined(listed: pd.DataFrame, pairs: pd.DataFrame) -> list[dict[str, object]]:
    """Pairs of photos whose images were taken for one photo's: how much they overlap, and the images of each."""
    overlap_of = pairs.set_index(["photo", "other"]).overlap
    joined: list[dict[str, object]] = []
    for _, images in listed.groupby("group"):
        for pair in itertools.combinations(sorted(images.photo.unique().tolist()), 2):
            counts = [int((images.photo == photo).sum()) for photo in pair]
            joined.append({"photos": pair, "overlap": float(overlap_of.get(pair, 0)), "images": counts})
    return joined


def measure_images(data_folder: str) -> dict[str, object]:
    """All published images without their photos, and three ways of splitting them."""
    listed, pictures = list_images(data_folder)
    table, used = search("images", pictures)
    photo, field = listed.photo.to_numpy(), listed.field.to_numpy()
    group, together = table.group.to_numpy(), table.field.to_numpy()
    is_train = listed.image.str.startswith("TRAIN").to_numpy()
    labels = listed.image.str.split("/").str[1].map(CLASSES.index).to_numpy()
    train = np.flatnonzero(is_train)
    held_back = {
        "random": train[split_at_random(len(train), 0.2, 0).validation],
        "by photo": train[split_by_group(labels[train], photo[train], 1, 5, 0).validation],
        "TRAIN against TEST": np.flatnonzero(~is_train),
    }
    leaks = {}
    for name, rows in held_back.items():
        is_held = np.isin(np.arange(len(listed)), rows)
        chosen = np.ones(len(listed), bool) if name.endswith("TEST") else is_train
        shares = {
            key: name_leaks(numbers[chosen], is_held[chosen])
            for key, numbers in {
                "siblings": group,
                "with_overlaps": together,
                "truly_siblings": photo,
                "truly_with_overlaps": field,
            }.items()
        }
        leaks[name] = {"held_back": len(rows), **shares}
    field_of = listed.assign(found=together).groupby("photo").found.agg(lambda found: found.mode()[0])
    pairs = overlaps.read_recorded()
    pairs = pairs[pairs.photo.isin(field_of.index) & pairs.other.isin(field_of.index)]
    is_found = field_of[pairs.photo].to_numpy() == field_of[pairs.other].to_numpy()
    return {
        **used,
        "joined": list_joined(listed.assign(group=group), pairs),
        "parted": int((listed.assign(group=group).groupby("photo").group.nunique() > 1).sum()),
        "overlapping": len(pairs),
        "overlapping_found": int(is_found.sum()),
        "overlap_found": float(pairs.overlap[is_found].median()),
        "overlap_missed": float(pairs.overlap[~is_found].median()),
        "apart": score_groups(group, photo),
        "apart_in_test": score_groups(group[~is_train], photo[~is_train]),
        "together": score_groups(together, field),
        "groups": len(set(group)),
        "photos": len(set(photo)),
        "splits": leaks,
    }


def measure_growth(data_folder: str) -> dict[str, object]:
    """Seconds of the processor that searching and comparing take at several sizes; reading takes the same a picture."""
    _, pictures = list_images(data_folder)
    rows = []
    for size in SIZES:
        _, used = search(f"growth-{size}", pictures[:size])
        rows.append({"pictures": size, "cpu_by_stage": used["cpu_by_stage"]})
    return {"sizes": rows}


def make_copy(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turn, mirror, crop, brighten and scale a picture, with Pillow."""
    moved = picture.rotate(rng.uniform(0, 360), Image.Resampling.BICUBIC)
    moved = ImageOps.mirror(moved) if rng.random() < 0.5 else moved
    share = rng.uniform(0.7, 1)
    width, height = (round(side * share) for side in moved.size)
    left, top = rng.integers(moved.width - width + 1), rng.integers(moved.height - height + 1)
    moved = moved.crop((left, top, left + width, top + height))
    moved = ImageEnhance.Brightness(moved).enhance(rng.uniform(0.7, 1.3))
    moved = ImageEnhance.Contrast(moved).enhance(rng.uniform(0.7, 1.3))
    scale = 2 ** rng.uniform(-1, 1)
    return moved.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)


def make_pbc(folder: str) -> tuple[list[Path], NDArray[np.int64]]:
    """Write copies of sources of PBC that chose nothing, as JPEG of quality 50; the files and their sources."""
    files = sorted(Path(folder).glob("*/*.jpg"))
    sources = np.random.default_rng(7).permutation(len(files))[len(files) // 2 :][:SOURCES]
    place = FOLDER / "pbc"
    place.mkdir(parents=True, exist_ok=True)
    copies = [place / f"{source}-{copy}.jpg" for source in sources for copy in range(COPIES)]
    for source in sources:
        mine = [place / f"{source}-{copy}.jpg" for copy in range(COPIES)]
        if not mine[-1].exists():
            rng = np.random.default_rng([11, int(source)])
            with Image.open(files[source]) as opened:
                original = opened.convert("RGB")
            for path in mine:
                with paths.written_whole(path) as temporary:
                    make_copy(original, rng).save(temporary, "JPEG", quality=50)
    return copies, np.repeat(sources, COPIES)


def list_repeats(fields: NDArray, sources: NDArray, files: list[Path]) -> list[dict[str, object]]:
    """Pairs of sources whose copies were taken for one, and the features in which the sources themselves agree."""
    repeats: list[dict[str, object]] = []
    for members in pd.Series(sources).groupby(fields).unique():
        for first, second in itertools.combinations(sorted(members), 2):
            link = find_siblings([files[first], files[second]]).link(0, 1)
            inliers = link.inliers if link else 0
            repeats.append({"first": files[first].stem, "second": files[second].stem, "inliers": inliers})
    return repeats


def measure_pbc(folder: str) -> dict[str, object]:
    """Copies made from PBC."""
    pictures, truth = make_pbc(folder)
    table, used = search("pbc", pictures)
    scores = {"apart": score_groups(table.group.to_numpy(), truth)}
    scores["together"] = score_groups(table.field.to_numpy(), truth)
    repeats = list_repeats(table.field.to_numpy(), truth, sorted(Path(folder).glob("*/*.jpg")))
    return {**used, "sources": SOURCES, **scores, "repeats": repeats}


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
    from wbc_lib.training import networks

    model = networks.build_efficientnet((224, 224))
    networks.load_efficientnet(model)
    features = []
    for i in range(0, len(pictures), 32):
        batch = [cv2.resize(p, (224, 224), interpolation=cv2.INTER_AREA) for p in pictures[i : i + 32]]
        features.append(np.asarray(model.predict_on_batch(np.array(batch, np.float32))).mean(axis=(1, 2)))
    values = np.concatenate(features)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values @ values.T


def measure_rivals(data_folder: str, pbc: str) -> dict[str, object]:
    """Share of pairs found at 99 % precision by other ways, and what this one finds of the same pictures."""
    listed, images = list_images(data_folder)
    copies, source = make_pbc(pbc)
    sets = {"images": (images[:SAMPLE], listed.photo.to_numpy()[:SAMPLE]), "pbc": (copies[:SAMPLE], source[:SAMPLE])}
    measured: dict[str, object] = {}
    for name, (files, truth) in sets.items():
        table, _ = search(f"rivals-{name}", files)
        pictures = [cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) for path in files]
        measured[name] = {
            "pictures": len(pictures),
            "pairs": count_pairs(truth),
            "hash": recall_at(hash_likeness(pictures), truth, 0.99),
            "network": recall_at(network_likeness(pictures), truth, 0.99),
            "ours": score_groups(table.group.to_numpy(), truth),
        }
    return measured


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--pbc", required=True)
    parser.add_argument("--only", default="pbc,images,growth,rivals")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--anew", action="store_true", help="forget what earlier parts have done")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Stopped; what had finished is kept."))
    if asked.anew:
        shutil.rmtree(FOLDER, ignore_errors=True)
    parts = {
        "images": lambda: measure_images(asked.data),
        "growth": lambda: measure_growth(asked.data),
        "pbc": lambda: measure_pbc(asked.pbc),
        "rivals": lambda: measure_rivals(asked.data, asked.pbc),
    }
    for name in asked.only.split(","):
        if name not in parts:
            parser.error(f"there is no part {name}; choose of {', '.join(parts)}")
        measured = parts[name]() | {"cores": os.cpu_count(), "opencv": cv2.__version__}
        print(name, json.dumps(measured, indent=1), flush=True)
        if asked.record:
            record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
            paths.write_text(RECORD, json.dumps(record | {name: measured}, indent=1) + "\n")


if __name__ == "__main__":
    main()
