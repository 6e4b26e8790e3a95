"""Binary PPM and PGM pictures (P6, P5, 8 bits): what a device can read and write with numpy alone. Python >= 3.8."""

from __future__ import annotations

import re

import numpy as np

from edgegen.runtime.errors import InputError

_HEADER = re.compile(rb"(P[56])(?:\s|#[^\n]*\n)+(\d{1,5})\s+(\d{1,5})\s+255\s")


def read_ppm(content: bytes, where: str) -> np.ndarray:
    """Return the picture uint8 (H, W, 3), or (H, W) for grey. `where` names it in errors."""
    found = _HEADER.match(content)
    if not found:
        raise InputError(f"{where} is not a binary PPM or PGM of 8 bits", hint="convert it: `magick photo.jpg photo.ppm`")
    width, height, channels = int(found.group(2)), int(found.group(3)), 3 if found.group(1) == b"P6" else 1
    if len(content) - found.end() < width * height * channels:
        raise InputError(f"{where} is cut off: it holds fewer than {width}x{height} pixels")
    values = np.frombuffer(content, np.uint8, width * height * channels, found.end())
    return values.reshape((height, width, 3) if channels == 3 else (height, width))


def write_ppm(picture: np.ndarray) -> bytes:
    """Return the bytes of a picture uint8 (H, W, 3) as PPM, or of (H, W, 1) or (H, W) as PGM."""
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] not in (1, 3)):
        raise InputError(f"a {picture.dtype} array of shape {picture.shape} is no picture", hint="write a .npy instead")
    magic = b"P6" if picture.ndim == 3 and picture.shape[2] == 3 else b"P5"
    return magic + b"\n%d %d\n255\n" % (picture.shape[1], picture.shape[0]) + np.ascontiguousarray(picture).tobytes()
