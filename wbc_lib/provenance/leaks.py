"""Which pictures of one part have a sibling, or a photo of the same field of view, in another part."""

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.picture_sets import PictureFile
from wbc_lib.provenance.features import Link
from wbc_lib.provenance.siblings import Siblings


def list_leaks(files: Sequence[PictureFile], found: Siblings) -> pd.DataFrame:
    """Look at each picture for one in another part that was made from the same source, or else overlaps.

    A row per picture: ``picture``, ``split``, ``class``, ``group``, ``field`` (see `Siblings`), ``verdict`` ("sibling",
    "overlap", "clean", or "cannot tell"), ``sibling`` (the other picture), ``inliers`` and ``transform`` (a11 a12 a13
    a21 a22 a23, from pixels of the other picture to this one's; both empty if the two are joined by others only), and
    ``row_of_sibling`` (-1 if none).
    """
    table = pd.DataFrame(
        {
            "picture": [file.name for file in files],
            "split": [file.part for file in files],
            "class": [file.cell for file in files],
            "group": found.table.group.to_numpy(),
            "field": found.table.field.to_numpy(),
        }
    )
    by_group, by_field = (table.groupby(column).indices for column in ("group", "field"))
    parts, rows = table.split.to_numpy(), []
    for i, is_unknown in enumerate(found.cannot_tell):
        others = [int(j) for j in by_group[table.group[i]] if parts[j] != parts[i]]
        verdict = "sibling" if others else "overlap"
        others = others or [int(j) for j in by_field[table.field[i]] if parts[j] != parts[i]]
        if not others:
            rows.append(("cannot tell" if is_unknown else "clean", "", pd.NA, "", -1))
            continue
        other = max(others, key=lambda j: found.count_inliers(i, j))
        link = found.link(i, other)
        rows.append((verdict, table.picture[other], link.inliers if link else pd.NA, write_transform(link), other))
    columns = ["verdict", "sibling", "inliers", "transform", "row_of_sibling"]
    return table.join(pd.DataFrame(rows, columns=columns).astype({"inliers": "Int64"}))


def write_transform(link: Link | None) -> str:
    """The six numbers of a map, with spaces between; "" if there is none."""
    return " ".join(f"{value:.5g}" for value in link.affine.ravel()) if link else ""


def lay_over(first: NDArray[np.uint8], second: NDArray[np.uint8], transform: str) -> NDArray[np.uint8]:
    """Mix a picture with another, moved by a map as `write_transform` writes it, where that reaches."""
    affine = np.array(transform.split(), float).reshape(2, 3)
    size = first.shape[1::-1]
    moved = cv2.warpAffine(second, affine, size)
    reaches = cv2.warpAffine(np.full(second.shape[:2], 255, np.uint8), affine, size) == 255
    mixed = first // 3
    mixed[reaches] = (first[reaches].astype(np.uint16) + moved[reaches]) // 2
    return mixed


def count_leaks(table: pd.DataFrame) -> pd.DataFrame:
    """Count pictures by verdict: a row per part and class, and one for all classes of a part if there are several."""
    rows = []
    for part, of_part in table.groupby("split", sort=False):
        classes = list(of_part.groupby("class"))
        if len(classes) == 1:
            rows.append(_count(part, classes[0][0] or "all", of_part))
        else:
            rows += [_count(part, cell or "(none)", of_class) for cell, of_class in classes]
            rows.append(_count(part, "all", of_part))
    return pd.DataFrame(rows)


def _count(part: str, cell: str, table: pd.DataFrame) -> dict[str, object]:
    counts = {verdict: int((table.verdict == verdict).sum()) for verdict in ("sibling", "overlap", "cannot tell")}
    return {"split": part, "class": cell, "pictures": len(table), **counts}
