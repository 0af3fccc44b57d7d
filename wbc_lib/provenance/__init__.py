"""Which photo each image was made from, and what follows."""
