"""Look at a folder of calibration pictures before anything is calibrated: what cannot be used, what repeats, what stands out.

Nothing stops at the first bad file: each is named with its own sentence. What decodes is compared by a 64-bit picture hash
(gradients of an 8x9 miniature), so that a copy in another size or format is found.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.data.gallery import split
from edgegen.data.pictures import decode_label_map, decode_photo, list_pictures, read_file
from edgegen.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

_FEWEST = 8
_SIDE = 256  # pixels of the shorter side that statistics look at
_NEAR_BITS = 4  # of 64: smaller copies and JPEGs of 12 street photos differ by 0 to 4, two photos of 80 by at least 5
_FAR = 6.0  # robust deviations; of 60 street photos none is further than 4.4, whichever dozen of them is looked at


@dataclasses.dataclass(frozen=True)
class DataCheck:
    """What was found in a folder. `refused` and `leaks` make it unusable; the others are worth a look.

    `count` pictures decode, of which `copies` are identical to an earlier one. Every entry is a sentence that names its files.
    """

    count: int
    sha256: str
    refused: tuple[str, ...] = ()
    leaks: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    outliers: tuple[str, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether these pictures may calibrate and judge an artifact."""
        return not self.refused and not self.leaks

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON object."""
        return dataclasses.asdict(self) | {"usable": self.is_usable}


@dataclasses.dataclass(frozen=True)
class _Seen:
    name: str
    digest: str
    bits: int
    features: tuple[float, float, float]  # mean level, contrast and saturation, of 255


def check_pictures(
    folder: Path, *, held_out: int, channels: int = 3, classes: int | None = None, evaluation: Path | None = None
) -> DataCheck:
    """Decode every picture below `folder` within the limits of `edgegen.data.pictures` and return what is wrong with them.

    `held_out` pictures are kept from calibration, as in a run: a copy of one among the others is a leak, and so is one of a
    picture below `evaluation`. `classes`: label maps with so many classes; else photos for a generator of `channels` channels.
    Raises DataError only when the folder itself cannot be read or holds no pictures.
    """
    seen, refused = _read(folder, channels, classes)
    copies, unique = _copies(seen)
    parts = split(len(unique), held_out) if len(unique) >= _FEWEST else None
    leaks: list[str] = []
    if parts is None:
        refused.append(f"{folder} holds {len(unique)} different pictures, at least {_FEWEST} are needed")
    else:
        train, kept = [unique[i] for i in parts.train], [unique[i] for i in parts.held_out]
        leaks += [f"{a.name} is calibrated on and its copy {b.name} is held out" for a, b in _near(train, kept)]
    if evaluation is not None:
        others, unread = _read(evaluation, channels, classes)
        refused += unread
        leaks += [f"{a.name} is also in the evaluation data, as {b.name}" for a, b in _near(unique, others)]
    if unique and all(one.features[1] < 0.5 for one in unique) and classes is None:
        refused.append("every picture is one flat colour: ranges calibrated on them are wrong")
    outliers = [] if classes is not None else _outliers(unique)
    digest = hashlib.sha256(json.dumps([(one.name, one.digest) for one in seen]).encode()).hexdigest()
    return DataCheck(len(seen), digest, tuple(refused), tuple(leaks), tuple(copies), tuple(outliers))


def require_usable(check: DataCheck, folder: Path) -> None:
    """Raise DataError with the first reason why the pictures of `folder` may not be used, and how many more there are."""
    reasons = [*check.refused, *check.leaks]
    if reasons:
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        raise DataError(f"{reasons[0]}{more}", hint=f"mend or remove what is named, then check {folder} again")


def _read(folder: Path, channels: int, classes: int | None) -> tuple[list[_Seen], list[str]]:
    seen, refused = [], []
    for path in list_pictures(folder):
        try:
            content = read_file(path)
            if classes is not None:
                image = decode_label_map(content, path, classes=classes)
            else:
                image = decode_photo(content, path, mode="L" if channels == 1 else "RGB", smallest_side=_SIDE)
                _refuse_transparent(content, path)
        except DataError as failure:
            refused.append(failure.message)
            continue
        name = path.relative_to(folder).as_posix()
        seen.append(_Seen(name, hashlib.sha256(content).hexdigest(), _hash(image, exact=classes is not None), _features(image)))
    return seen, refused


def _refuse_transparent(content: bytes, path: Path) -> None:
    """Raise DataError for a photo with transparent pixels: what lies under them is no picture."""
    import io

    from PIL import Image

    image = Image.open(io.BytesIO(content))
    if "A" in image.getbands() and min(image.getchannel("A").histogram()[255:]) < image.width * image.height:
        raise DataError(f"{path} has transparent pixels, which a camera never gives", hint="save it without an alpha channel")


def _hash(image: Image, *, exact: bool) -> int:
    """Return 64 bits of the picture: where an 8x9 miniature gets brighter from left to right; label maps compare exactly."""
    import numpy as np
    from PIL import Image as Pillow

    if exact:
        return int(hashlib.sha256(image.tobytes()).hexdigest()[:16], 16)
    small = np.asarray(image.convert("L").resize((9, 8), Pillow.Resampling.BOX), np.int16)
    return int("".join("1" if bit else "0" for bit in (small[:, 1:] > small[:, :-1]).ravel()), 2)


def _features(image: Image) -> tuple[float, float, float]:
    import numpy as np

    values = np.atleast_3d(np.asarray(image, np.float32))
    return float(values.mean()), float(values.std()), float(np.ptp(values, axis=2).mean())


def _copies(seen: Sequence[_Seen]) -> tuple[list[str], list[_Seen]]:
    """Return sentences on identical files, and the pictures without them."""
    first: dict[str, _Seen] = {}
    sentences = []
    for one in seen:
        if one.digest in first:
            sentences.append(f"{one.name} is the same file as {first[one.digest].name}")
        first.setdefault(one.digest, one)
    return sentences, list(first.values())


def _near(ours: Sequence[_Seen], theirs: Sequence[_Seen]) -> list[tuple[_Seen, _Seen]]:
    """Return the pairs that show the same picture: equal files, or hashes that differ by at most 4 of 64 bits."""
    return [
        (a, b)
        for a in ours
        for b in theirs
        if a.digest == b.digest or ((a.bits ^ b.bits).bit_count() <= _NEAR_BITS and _alike(a, b))
    ]


def _alike(a: _Seen, b: _Seen) -> bool:
    """Whether brightness, contrast and saturation agree too: flat pictures all have the same hash."""
    return all(abs(x - y) <= 8 for x, y in zip(a.features, b.features, strict=True)) and a.features[1] >= 0.5


def _outliers(seen: Sequence[_Seen]) -> list[str]:
    """Return sentences on pictures whose brightness, contrast or saturation is far from those of the others."""
    import numpy as np

    if len(seen) < _FEWEST:
        return []
    table = np.array([one.features for one in seen])
    usual = np.median(table, axis=0)
    spread = 1.4826 * np.median(np.abs(table - usual), axis=0) + 16.0  # levels; equal pictures have no spread
    told = []
    for one, row in zip(seen, (table - usual) / spread, strict=True):
        worst = int(np.abs(row).argmax())
        if abs(row[worst]) > _FAR:
            what = ("brightness", "contrast", "saturation")[worst]
            told.append(f"{one.name} stands out: {what} {one.features[worst]:.0f} of 255, usual are about {usual[worst]:.0f}")
    return told
