"""The photos: on disk, as arrays, drawn, divided."""
