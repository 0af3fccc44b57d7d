import io
from base64 import b64decode

import numpy as np
from PIL import Image, ImageColor

from wbc_lib import figures
from wbc_lib.figures import style


def decoded(shown: tuple[str, dict[str, int]]) -> Image.Image:
    return Image.open(io.BytesIO(b64decode(shown[0])))


def test_a_figure_with_photos_is_shown_as_a_jpeg_and_any_other_as_a_png():
    pictures = [np.zeros((6, 8, 3), np.uint8)]
    photos, chart = figures.draw_cells({"NEUTROPHIL": pictures}), figures.draw_missing("nothing")
    assert style.show_as_png(photos) is None and style.show_as_jpeg(chart) is None
    assert decoded(style.show_as_jpeg(photos)).format == "JPEG"
    assert decoded(style.show_as_png(chart)).format == "PNG"


def test_a_figure_is_shown_at_half_its_pixels_and_keeps_its_colours():
    figure, axes = style.new_figure(2)
    axes[0, 0].bar(range(4), range(1, 5), color=list(style.CLASS_COLOURS.values()))
    encoded, size = style.show_as_png(figure)
    picture = decoded((encoded, size))
    assert picture.size[0] // 2 == size["width"] and picture.size[1] // 2 == size["height"]
    shown = {colour for _, colour in picture.convert("RGB").getcolors(1 << 16)}
    assert {ImageColor.getrgb(colour) for colour in style.CLASS_COLOURS.values()} | {(255, 255, 255)} <= shown
