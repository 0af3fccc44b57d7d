"""Colours in CIE Lab, and giving one picture the colours of another."""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray


def to_lab(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """From sRGB to CIE Lab (1976, D65): L from 0 to 100, a and b around 0; the same shape."""
    return np.asarray(cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2Lab), np.float32)


def from_lab(lab: NDArray[np.floating]) -> NDArray[np.uint8]:
    """From CIE Lab to sRGB; what no screen can show is cut off."""
    rgb = cv2.cvtColor(np.asarray(lab, np.float32), cv2.COLOR_Lab2RGB)
    return np.rint(255 * np.clip(rgb, 0, 1)).astype(np.uint8)


def match(
    picture: NDArray[np.uint8], mean: ArrayLike, sd: ArrayLike, to_mean: ArrayLike, to_sd: ArrayLike
) -> NDArray[np.uint8]:
    """Give a picture whose L, a and b have this mean and standard deviation others (Reinhard et al. 2001).

    There the colours are those of another space (l alpha beta), whose axes are much like Lab's.
    """
    factor = np.asarray(to_sd, float) / np.maximum(np.asarray(sd, float), 1e-6)
    return from_lab((to_lab(picture) - np.asarray(mean, float)) * factor + np.asarray(to_mean, float))
