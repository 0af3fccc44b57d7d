"""Pictures from elsewhere (a microscope, a phone): found by name, and read right or refused in one sentence."""

import glob
import io
import os
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, MpoImagePlugin, TiffImagePlugin

from wbc_lib.data.dataset import IMAGE_SIZE, read_file
from wbc_lib.data.images import INPUT_SHAPE, decode_jpeg, shrink
from wbc_lib.errors import BadDataError, printable

#: Endings of the files that are taken from a folder.
ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp")
#: What messages advise for a file that cannot be read.
COPY = "take another copy"
#: Room for a large camera's picture without compression; what is larger shows no single cell.
MAX_BYTES = 200_000_000

_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
_SAVE = "save it as RGB with 8 bits per channel"
# Pillow's names of what is grey or RGB, of 8 or 16 whole bits, with or without alpha or a palette.
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "I;16", "I;16B"}
_OTHER_MODES = {
    "CMYK": "is in the colours of print (CMYK)",
    "LAB": "is in CIE Lab colours",
    "F": "holds floating-point values, whose range no file states",
    "I": "holds whole numbers that are signed or of 32 bits, whose range no file states",
}
_PLANAR, _MAX_SAMPLE = TiffImagePlugin.PLANAR_CONFIGURATION, 281
_STRIPS = (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.STRIPBYTECOUNTS)
_TILES = (TiffImagePlugin.TILEOFFSETS, TiffImagePlugin.TILEBYTECOUNTS)
# What cameras count to. TIFF calls this tag statistics: any other value is but the largest of the picture.
_CAMERA_RANGES = {1023, 4095, 16383}
# The brightest point of a stained smear is near white; with this in 16 bits it would be at a quarter of it.
_DARK = 1 << 14
_MAX_NAMED = 20


@dataclass(frozen=True)
class Found:
    """What names of files, folders and patterns lead to."""

    pictures: list[Path]  # each once: in the order of the names, within a folder or pattern by name
    passed_over: list[Path]  # in the folders besides: files without an ending of `ENDINGS`, hidden ones, linked folders
    problems: list[str]  # a sentence for every name that means no picture, and every folder that cannot be listed

    def describe_passed_over(self) -> str:
        """One sentence with the number and the first names; "" if nothing was passed over."""
        if not self.passed_over:
            return ""
        named = ", ".join(printable(path) for path in self.passed_over[:_MAX_NAMED])
        more = len(self.passed_over) - _MAX_NAMED
        rest = f" and {more:,} more (--json names all)" if more > 0 else ""
        return (
            f"Passed over {len(self.passed_over):,} in the folders, which are linked, hidden, or without an ending of "
            f"a picture ({', '.join(ENDINGS)}): {named}{rest}; name one to have it read."
        )


def find_pictures(names: Iterable[str]) -> Found:
    """Find the pictures that are meant by names of files, folders (all pictures below them) or patterns."""
    pictures: dict[Path, None] = {}
    passed_over: dict[Path, None] = {}
    problems: list[str] = []
    for name in names:
        matches = _match(name)
        n_problems, below = len(problems), []
        for match in matches:
            taken, others = _walk(match, problems) if match.is_dir() else ([match], [])
            below += taken
            passed_over |= dict.fromkeys(others)
        if not matches:
            problems.append(f"{printable(Path(name))}: there is no such file or folder.")
        elif not below and len(problems) == n_problems:
            problems.append(f"{printable(Path(name))}: holds no picture ({', '.join(ENDINGS)}).")
        pictures |= dict.fromkeys(below)
    return Found(list(pictures), [path for path in passed_over if path not in pictures], problems)


def _match(name: str) -> list[Path]:
    try:
        if Path(name).exists():
            return [Path(name)]
        return [Path(p) for p in sorted(glob.glob(name, recursive=True))]  # noqa: PTH207 - may start at the root
    except (OSError, ValueError):  # a name too long, a NUL
        return []


def _walk(folder: Path, problems: list[str]) -> tuple[list[Path], list[Path]]:
    # The pictures below a folder and what else is there. Links to folders are not followed: they may lead in circles.
    pictures: list[Path] = []
    others: list[Path] = []

    def note(error: OSError) -> None:
        problems.append(f"{printable(error.filename)}: the folder cannot be listed ({error.strerror}).")

    for place, folders, names in os.walk(folder, onerror=note):
        others += [path for path in (Path(place, name) for name in folders) if path.is_symlink()]
        for name in names:
            is_picture = name.lower().endswith(ENDINGS) and not name.startswith(".")
            (pictures if is_picture else others).append(Path(place, name))
    return sorted(pictures), sorted(others)


def read_picture(path: Path, shape: tuple[int, int] = INPUT_SHAPE) -> NDArray[np.uint8]:
    """Read one JPEG, PNG, TIFF, BMP or WebP at the network's size, in RGB; the content counts, not the ending.

    A JPEG of 320x240, as the data set has, gives the very pixels that a training sees (`images.read_small`). Of any
    other picture the middle, cut to the network's proportions (4:3), is averaged down. EXIF turns are applied, and
    colours of another profile are brought to sRGB.

    Raises `BadDataError` if it cannot be read or decoded, is damaged as far as its format shows that, is smaller than
    the network's input, or holds what would have to be guessed.
    """
    name = printable(path)
    content = read_file(path, MAX_BYTES, COPY)
    form = _examine(content, name)
    if form.is_jpeg and form.size == IMAGE_SIZE:
        half = decode_jpeg(content, name, COPY, reduce=True)
        if half.shape[1::-1] == (IMAGE_SIZE[0] // 2, IMAGE_SIZE[1] // 2):  # else its EXIF data turn it
            return _to_srgb(shrink(half, shape), form, name)
    image = _decode_whole(content, form, name)
    middle = cut(image, shape)
    if middle.shape[0] < shape[0] or middle.shape[1] < shape[1]:
        raise BadDataError(
            f"{name}: {image.shape[1]}x{image.shape[0]} is too small; "
            f"the network looks at {shape[1]}x{shape[0]} pixels."
        )
    return _to_srgb(shrink(_without_alpha(middle, name), shape), form, name)


def read_full(path: Path) -> NDArray[np.uint8]:
    """Read a picture at its full size and in its colours, shape (height, width, RGB); raises as `read_picture` does."""
    name = printable(path)
    content = read_file(path, MAX_BYTES, COPY)
    form = _examine(content, name)
    return _to_srgb(_without_alpha(_decode_whole(content, form, name), name), form, name)


def decode_picture(content: bytes, name: str) -> NDArray[np.uint8]:
    """Decode a picture for its shapes, at full size, shape (height, width, RGB).

    Colours are as they are coded, on white where it is transparent; more than 8 bits are brought to 8 by the brightest
    point. Raises `BadDataError` as `read_picture` does of what is damaged or has several pages.
    """
    pixels = _decode_whole(content, _examine(content, name, for_shapes=True), name)
    if pixels.shape[2] == 3:
        return pixels
    cover = pixels[..., 3:].astype(np.float32) / 255
    return np.rint(pixels[..., :3] * cover + 255 * (1 - cover)).astype(np.uint8)


def _decode_whole(content: bytes, form: "_Form", name: str) -> NDArray[np.uint8]:
    return decode_jpeg(content, name, COPY) if form.is_jpeg else _decode(content, form, name)


def _without_alpha(image: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    if image.shape[2] == 4 and image[..., 3].min() < 255:
        raise BadDataError(f"{name}: is transparent in places, so its colours there are unknown; {_SAVE}.")
    return np.ascontiguousarray(image[..., :3])


def cut(image: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut the middle out of an image, as large as can be with the proportions of `shape` (height, width)."""
    height, width = image.shape[:2]
    rows = min(height, width * shape[0] // shape[1])
    columns = min(width, height * shape[1] // shape[0])
    top, left = (height - rows) // 2, (width - columns) // 2
    return image[top : top + rows, left : left + columns]


@dataclass(frozen=True)
class _Form:
    """What a file says of its pixels; nothing is decoded yet."""

    is_jpeg: bool
    size: tuple[int, int]
    is_gray: bool
    profile: bytes
    bits: int
    highest: int  # what stands for full brightness in more than 8 bits; 0 if it does not say
    for_shapes: bool


def _examine(content: bytes, name: str, *, for_shapes: bool = False) -> _Form:
    try:
        with _open(content) as opened:
            _refuse_guesses(opened, name, for_shapes)
            bits, highest = _read_depth(opened, content, name)
            is_gray = opened.mode in {"1", "L", "LA"} or opened.mode.startswith("I")
            is_jpeg = opened.format in {"JPEG", "MPO"} and opened.mode != "CMYK"
            profile = opened.info.get("icc_profile") or b""
            return _Form(is_jpeg, opened.size, is_gray, profile, bits, highest, for_shapes)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = f"{Image.MAX_IMAGE_PIXELS:,}"
        raise BadDataError(f"{name}: has more than {limit} pixels; cut out the part with the cell.") from error
    except BadDataError:
        raise
    except Exception as error:  # Pillow passes on whatever a header made it meet
        raise BadDataError(
            f"{name}: is no picture that can be read, or not the whole of one; "
            "save it as JPEG, PNG, TIFF, BMP or WebP, in RGB with 8 bits per channel."
        ) from error


@contextmanager
def _open(content: bytes) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(content), formats=_FORMATS) as opened:
            yield opened


def _refuse_guesses(opened: Image.Image, name: str, for_shapes: bool) -> None:
    # What would have to be guessed: a range of values, which page is meant, colours.
    if opened.mode not in _MODES and not (for_shapes and opened.mode == "CMYK"):
        what = _OTHER_MODES.get(opened.mode, f"is in {opened.mode} colours")
        raise BadDataError(f"{name}: {what}; {_SAVE}.")
    if (frames := _count_frames(opened)) > 1:
        raise BadDataError(f"{name}: holds {frames} pages or frames; save the one that is meant.")
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        if _is_preview(opened):
            raise BadDataError(f"{name}: begins with a preview, as a camera's raw file does; {_SAVE}.")
        if "jpeg" in opened.info.get("compression", ""):
            raise BadDataError(
                f"{name}: is a TIFF with JPEG inside, whose damage does not show; {_SAVE}, uncompressed."
            )
    if for_shapes or opened.info.get("icc_profile"):
        return
    if opened.format == "JPEG":  # a camera's; of a PNG this would decode the pixels
        interop = opened.getexif().get_ifd(ExifTags.IFD.Interop)
        if interop.get(ExifTags.Interop.InteropIndex) == "R03":
            raise BadDataError(f"{name}: is in Adobe RGB colours without their profile; save it as sRGB.")
    if "srgb" not in opened.info and not 0.4 < opened.info.get("gamma", 0.45455) < 0.5:
        raise BadDataError(f"{name}: is not coded with the gamma of sRGB; save it as sRGB.")


def _count_frames(opened: Image.Image) -> int:
    # Without smaller copies of the first, as a pyramid of pages has, or a phone's JPEG with its preview or gain map.
    if isinstance(opened, MpoImagePlugin.MpoImageFile):
        entries = (opened.mpinfo or {}).get(0xB002, [])[1:]
        return 1 + sum("Multi-Frame" in entry["Attribute"]["MPType"] for entry in entries)
    frames = getattr(opened, "n_frames", 1)
    if not isinstance(opened, TiffImagePlugin.TiffImageFile) or frames == 1:
        return frames
    whole = 1
    for page in range(1, frames):
        opened.seek(page)
        whole += not _is_preview(opened)
    opened.seek(0)
    return whole


def _is_preview(page: TiffImagePlugin.TiffImageFile) -> bool:
    return bool(page.tag_v2.get(ExifTags.Base.NewSubfileType, 0) & 1)


def _read_depth(opened: Image.Image, content: bytes, name: str) -> tuple[int, int]:
    # Bits per channel, and the value that stands for full brightness, as OpenCV gives it; 0 if the file does not say.
    if opened.format == "PNG":
        return content[24], 0
    if not isinstance(opened, TiffImagePlugin.TiffImageFile):
        return 8, 0
    tags = opened.tag_v2
    bits = int(np.max(tags.get(ExifTags.Base.BitsPerSample, 1)))
    if bits > 8 and (tags.get(ExifTags.Base.PhotometricInterpretation) == 0 or tags.get(_PLANAR, 1) == 2):
        raise BadDataError(f"{name}: holds {bits} bits per channel, inverted or in planes; {_SAVE}.")
    if bits < 16:
        return bits, (1 << 16) - (1 << (16 - bits))  # OpenCV fills up with zeros
    stated = int(np.max(tags.get(_MAX_SAMPLE, 0)))
    return bits, stated if stated in _CAMERA_RANGES else 0


def _decode(content: bytes, form: _Form, name: str) -> NDArray[np.uint8]:
    # RGB, or RGBA. Pillow sees damage where OpenCV passes it, but brings 16 bits to 8 by leaving out the lower ones.
    try:
        with _open(content) as opened:
            _check_deflated(opened, content)
            image = ImageOps.exif_transpose(opened)
            pixels = np.array(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    except Exception as error:  # Pillow passes on whatever the content made it meet
        raise BadDataError(f"{name}: cannot be decoded, for it is damaged or ends too early; {COPY}.") from error
    if form.bits <= 8:
        return pixels
    try:
        deep = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        deep = None
    if deep is None or deep.dtype != np.uint16 or deep.shape[:2] != pixels.shape[:2]:
        raise BadDataError(f"{name}: holds {form.bits} bits per channel in a form that is not read; {_SAVE}.")
    pixels[..., :3] = cv2.cvtColor(_to_8_bits(np.asarray(deep, np.uint16), form, name), cv2.COLOR_BGR2RGB)
    return pixels


def _check_deflated(opened: Image.Image, content: bytes) -> None:
    # libtiff does not compare the checksums of a deflated TIFF, which are all that tells of damage.
    if not isinstance(opened, TiffImagePlugin.TiffImageFile) or "deflate" not in opened.info.get("compression", ""):
        return
    tags = opened.tag_v2
    places, sizes = _STRIPS if _STRIPS[0] in tags else _TILES
    for start, size in zip(np.atleast_1d(tags[places]), np.atleast_1d(tags[sizes]), strict=True):
        part, rest = zlib.decompressobj(), content[start : start + size]
        while rest and not part.eof:
            part.decompress(rest, 1 << 20)
            rest = part.unconsumed_tail
        if not part.eof:
            raise zlib.error


def _to_8_bits(deep: NDArray[np.uint16], form: _Form, name: str) -> NDArray[np.uint8]:
    largest = int(deep.max())
    if form.for_shapes:
        return np.rint(deep * np.float32(255 / max(largest, 1))).astype(np.uint8)
    if not form.highest and largest < _DARK:
        raise BadDataError(
            f"{name}: uses {largest.bit_length()} of its {form.bits} bits and does not say that these are its range; "
            "save it with 8 bits per channel, or as a TIFF that states its MaxSampleValue."
        )
    highest = form.highest or (1 << 16) - 1
    if largest > highest:
        raise BadDataError(f"{name}: holds values up to {largest} and states a range up to {highest}; {_SAVE}.")
    return np.rint(deep * np.float32(255 / highest)).astype(np.uint8)


def _to_srgb(pixels: NDArray[np.uint8], form: _Form, name: str) -> NDArray[np.uint8]:
    if not form.profile:
        return pixels
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(form.profile))
        has_one_channel = form.is_gray and profile.profile.xcolor_space.strip() == "GRAY"
        image = Image.fromarray(np.ascontiguousarray(pixels[..., 0]) if has_one_channel else pixels)
        srgb = ImageCms.createProfile("sRGB")
        return np.array(ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB"))
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise BadDataError(f"{name}: has a colour profile that cannot be applied; save it as sRGB.") from error
