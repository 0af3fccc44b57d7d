"""The data set's fingerprint: a sha256 per file, and one for the whole."""

import contextlib
import gzip
import hashlib
import json
import os
import stat
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from wbc_lib import paths
from wbc_lib.data.dataset import DataSet, list_annotations, list_images, list_photos
from wbc_lib.errors import BadDataError

#: sha256 of the whole published data set, as `read_checksums` computes it.
PUBLISHED_SHA256 = "fac8a02aa412c2024bbdb50b90f665ebd29d148b7845462014eefe0b9047bbd2"
#: The hash of each published file, in the form of sha256sum; `PUBLISHED_SHA256` vouches for it.
PUBLISHED_FILES = paths.ROOT / "results" / "manifest" / "published.sha256.gz"

_CHUNK = 256  # files


@dataclass(frozen=True)
class Checksums:
    """The hashes of a data set's files."""

    files: dict[str, str]  # by names that do not depend on how the archive was unpacked, such as ``images/TRAIN/…``
    sha256: str  # of the sorted lines ``name sha256``

    @property
    def is_published(self) -> bool:
        """Whether these are the published files."""
        return self.sha256 == PUBLISHED_SHA256


def combine(files: dict[str, str]) -> Checksums:
    """Hash the hashes of files."""
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(files.items()))
    return Checksums(dict(sorted(files.items())), hashlib.sha256(lines.encode()).hexdigest())


def read_published() -> Checksums:
    """Read the recorded hashes of the published files; raises `BadDataError` if the record is missing or another."""
    try:
        lines = gzip.decompress(PUBLISHED_FILES.read_bytes()).decode().splitlines()
        published = combine({name: digest for digest, name in (line.split("  ", 1) for line in lines)})
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise BadDataError(f"{PUBLISHED_FILES} cannot be read; restore it from the repository.") from error
    if not published.is_published:
        raise BadDataError(f"{PUBLISHED_FILES} is not what was recorded; restore it from the repository.")
    return published


def data_files(data: DataSet) -> dict[str, Path]:
    """Every file that belongs to the data set, by the name it has among the hashes."""
    of_photos = [*map(data.photo_path, list_photos(data)), *map(data.annotation_path, list_annotations(data))]
    files = {"labels.csv": data.labels_path} | {f"{path.parent.name}/{path.name}": path for path in of_photos}
    return files | {f"images/{image}": data.image_path(image) for image in list_images(data).image}


def hash_file(path: Path) -> str:
    """Sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(files: Iterable[Path]) -> list[str]:
    """Sha256 of each file, read on two threads (hashing releases the interpreter's lock)."""
    files = list(files)
    # Many files at a time: handing over each by itself costs more than to hash it.
    pieces = [files[i : i + _CHUNK] for i in range(0, len(files), _CHUNK)]
    with ThreadPoolExecutor(2) as pool:
        return [digest for part in pool.map(lambda piece: list(map(hash_file, piece)), pieces) for digest in part]


def read_checksums(data: DataSet, *, anew: bool = False) -> Checksums:
    """Hash the data set, or read the hashes from the cache if no file's size or time has changed.

    With `anew` all is hashed in any case: a disk that loses bits changes neither. Raises `BadDataError` if a file
    vanishes or cannot be read.
    """
    try:
        files = data_files(data)
        cached = paths.cache() / "checksums" / f"{_listing_signature(data, files)}.json"
        if cached.exists() and not anew:
            with contextlib.suppress(ValueError):
                recorded = json.loads(cached.read_text())
                if isinstance(recorded, dict) and recorded.keys() == files.keys():
                    return combine(recorded)
        checksums = combine(dict(zip(files, hash_files(files.values()), strict=True)))
    except OSError as error:
        raise BadDataError(f"{error.filename} cannot be read ({error.strerror}); unpack the archive again.") from error
    paths.write_text(cached, json.dumps(checksums.files))
    return checksums


def _listing_signature(data: DataSet, files: dict[str, Path]) -> str:
    digest = hashlib.sha256(str(data.root.resolve()).encode())
    for name, path in files.items():
        status = os.stat(path)  # noqa: PTH116 - an os.stat costs a third of a Path.stat, and there are 13,000
        if not stat.S_ISREG(status.st_mode):  # reading a named pipe would wait for ever
            raise BadDataError(f"{path} cannot be read (it is no plain file); unpack the archive again.")
        digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
