"""White blood cells, classified again: the library behind the book."""
