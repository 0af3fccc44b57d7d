"""The photos: on disk, as arrays, drawn, divided."""

from wbc_lib.data.published import load as load
