"""Read picture files that nobody vouches for: known formats only, within limits, and an error that names the file."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from edgegen.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".ppm": "PPM"}
_MAX_FILE_BYTES = 256 << 20
_MAX_PIXELS = 64 << 20  # 64 megapixels: above every camera of the targets, 192 MiB decoded
_SHOWN = ", ".join(suffix[1:] for suffix in _FORMATS)


def list_pictures(folder: Path) -> list[Path]:
    """Return the picture files below `folder`, sorted by their path within it. Hidden files and links to folders are left out.

    Raises DataError if the folder is missing, no folder, not readable or without pictures.
    """
    if not folder.exists():
        raise DataError(f"{folder} does not exist", hint="give a folder with photos: --data DIR")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, not a folder", hint=f"give the folder: --data {folder.parent}")
    found: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(root) / name for name in names if not name.startswith(".") and Path(name).suffix.lower() in _FORMATS]
        found += [path for path in paths if path.is_file()]
    if not found:
        raise DataError(f"{folder} holds no pictures", hint=f"known formats: {_SHOWN}")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def read_file(path: Path) -> bytes:
    """Return the content of the picture file at `path`; DataError if it is too large or cannot be read."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise DataError(f"{path} is larger than {_MAX_FILE_BYTES >> 20} MiB", hint="take it out of the folder")
        return path.read_bytes()
    except OSError as problem:
        raise DataError(f"{path} cannot be read: {problem.strerror}", hint="check its permissions") from problem


def decode_photo(content: bytes, path: Path, *, mode: str, smallest_side: int) -> Image:
    """Return the photo as a PIL image of `mode` "RGB" or "L", upright, its shorter side at most `smallest_side` (aspect kept)."""
    from PIL import Image, ImageOps

    image = _open(content, path)
    try:
        image.draft(
            mode, (smallest_side, smallest_side)
        )  # JPEG decodes straight to a half, quarter or eighth where that suffices
        image = ImageOps.exif_transpose(_to_eight_bits(image, path)).convert(mode)
        shrink = smallest_side / min(image.size)
        if shrink < 1:
            size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
            image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
        return image
    except DataError:
        raise
    except Exception as problem:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...: all mean a bad file
        raise _corrupt(path, problem) from problem


def decode_label_map(content: bytes, path: Path, *, classes: int) -> Image:
    """Return the label map as a PIL image of mode "L" whose values are class ids below `classes`; DataError otherwise."""
    import numpy as np
    from PIL import Image

    image = _open(content, path)
    if image.mode not in ("L", "P", "1", "I", "I;16"):
        hint = "save class ids 0, 1, 2, ... in a single-channel PNG; colours are not ids"
        raise DataError(f"{path} is a colour picture ({image.mode}), not a label map", hint=hint)
    try:
        ids = np.asarray(image).astype(np.int64)
    except Exception as problem:  # as above
        raise _corrupt(path, problem) from problem
    if ids.min() < 0 or ids.max() >= classes:
        wrong = int(ids.max() if ids.max() >= classes else ids.min())
        hint = f"map the ids to 0..{classes - 1}" + (" (255 often means 'ignore')" if wrong == 255 else "")
        raise DataError(f"{path} has class id {wrong}, the generator knows {classes} classes", hint=hint)
    return Image.fromarray(ids.astype(np.uint8))


def _open(content: bytes, path: Path) -> Image:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is stricter and always applies
            image = Image.open(io.BytesIO(content), formats=sorted(set(_FORMATS.values())))
    except Image.DecompressionBombError as problem:
        raise DataError(f"{path} claims too many pixels: {problem}", hint="take it out of the folder") from problem
    except Exception as problem:  # as above
        raise _corrupt(path, problem) from problem
    if image.width * image.height > _MAX_PIXELS:
        fact = f"{path} is {image.width}x{image.height}, more than {_MAX_PIXELS >> 20} megapixels"
        raise DataError(fact, hint="scale it down, or take it out of the folder")
    return image


def _to_eight_bits(image: Image, path: Path) -> Image:
    """Return `image` with 8 bits per channel; 16-bit grey is scaled, which `convert` would clip to white."""
    import numpy as np
    from PIL import Image

    if image.mode == "F":
        raise DataError(f"{path} holds floating-point values", hint="save it as 8-bit PNG")
    if image.mode not in ("I", "I;16", "I;16B", "I;16L"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8))


def _corrupt(path: Path, problem: Exception) -> DataError:
    if isinstance(problem, MemoryError):
        return DataError(f"{path} does not fit into memory", hint="scale it down, or take it out of the folder")
    reason = str(problem).split("<_io")[0].strip() or type(problem).__name__
    return DataError(f"{path} is not a readable picture: {reason}", hint="replace it, or take it out of the folder")


def _refuse_folder(problem: OSError) -> None:
    raise DataError(f"{problem.filename} cannot be read: {problem.strerror}", hint="check its permissions") from problem
