"""The photos: on disk, as arrays, drawn, divided."""

from wbc_lib.data.splits import load as load
