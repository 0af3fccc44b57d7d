"""One self-contained page that shows leaks: pairs of pictures side by side, and one laid over the other."""

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import jinja2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.data.picture_sets import PictureFile
from wbc_lib.data.pictures import decode_picture
from wbc_lib.provenance.siblings import lay_over

#: Pairs shown: more would make a page that no browser opens gladly.
MOST = 200
_HEIGHT = 180

_PAGE = jinja2.Environment(autoescape=True).from_string(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Leaks between parts</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } th, td { padding: .2rem .8rem; border-bottom: 1px solid #bbb; text-align: right; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
figure { margin: 1.5rem 0; } figure div { display: flex; flex-wrap: wrap; gap: .5rem; }
img { height: 180px; width: auto; max-width: 100%; } figcaption { overflow-wrap: anywhere; }
</style></head><body>
<h1>Leaks between parts</h1>
<p>A sibling was made from the same source as a picture of another part. An overlap shows the same field of view in
another photo. Of a picture that cannot be told, too few features were found, or it cannot be read.</p>
<table><tr>{% for name in counts.columns %}<th scope="col">{{ name }}</th>{% endfor %}</tr>
{% for row in counts.itertuples(index=False) %}<tr>{% for value in row %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}</table>
<p>{{ shown }} of {{ total }} pairs are shown.</p>
{% for pair in pairs %}<figure><div>
<img src="{{ pair.first }}" alt="{{ pair.picture }}"><img src="{{ pair.second }}" alt="{{ pair.sibling }}">
{% if pair.overlay %}<img src="{{ pair.overlay }}" alt="The second picture laid over the first">{% endif %}</div>
<figcaption>{{ pair.picture }} ({{ pair.split }}) and {{ pair.sibling }}: {{ pair.verdict }}{% if pair.inliers %},
{{ pair.inliers }} features agree{% endif %}</figcaption></figure>
{% endfor %}</body></html>
"""
)


def write_page(target: Path, files: Sequence[PictureFile], table: pd.DataFrame, counts: pd.DataFrame) -> None:
    """Write the page of a table as `leaks.list_leaks` gives it."""
    leaks = table[table.row_of_sibling >= 0]
    # Each pair once, siblings first.
    pairs = [frozenset(pair) for pair in zip(leaks.index, leaks.row_of_sibling, strict=True)]
    leaks = leaks[~pd.Series(pairs, leaks.index).duplicated()].sort_values("verdict", ascending=False, kind="stable")
    shown = [_draw_pair(files, row) for row in leaks.head(MOST).to_dict("index").items()]
    page = _PAGE.render(counts=counts, pairs=shown, shown=len(shown), total=len(leaks))
    paths.write_text(target, page)


def _draw_pair(files: Sequence[PictureFile], row: tuple[int, dict]) -> dict[str, object]:
    index, values = row
    first, second = (decode_picture(files[i].read(), files[i].name) for i in (index, values["row_of_sibling"]))
    overlay = lay_over(first, second, values["transform"]) if values["transform"] else None
    return {
        **{name: values[name] for name in ("picture", "sibling", "split", "verdict")},
        "inliers": "" if pd.isna(values["inliers"]) else values["inliers"],
        "first": _as_uri(first),
        "second": _as_uri(second),
        "overlay": _as_uri(overlay) if overlay is not None else "",
    }


def _as_uri(picture: NDArray[np.uint8]) -> str:
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (max(1, round(width * _HEIGHT / height)), _HEIGHT), interpolation=cv2.INTER_AREA)
    _, content = cv2.imencode(".jpg", np.ascontiguousarray(small[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"
