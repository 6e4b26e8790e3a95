"""`edgegen run`: one picture through a bundle, by the very runtime that runs on devices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgegen.cli import console

if TYPE_CHECKING:
    from edgegen.spec import TensorSpec

_WRITTEN = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".npy")
_UNREDUCED = 1 << 16


def run(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder or its .zip.")],
    output: Annotated[Path, typer.Option(help="Where to write the picture: .png, .jpg, .webp, .bmp, .ppm or .npy.")],
    inputs: Annotated[list[Path] | None, typer.Option("--input", help="A photo, a label map or a .npy; once per input.")] = None,
    seed: Annotated[int | None, typer.Option(help="Draw latents and classes from this seed.")] = None,
    backend: Annotated[
        str | None, typer.Option(help="Another artifact than the preferred one: openvino, or openvino/f32.")
    ] = None,
    threads: Annotated[int, typer.Option(help="0: the back end decides.", min=0)] = 0,
) -> None:
    """Run a photo, a label map or a seed through a bundle and write the picture."""
    from edgegen.bundle import host_errors, open_bundle
    from edgegen.workspace import storage_errors

    _require_writable(output)
    with open_bundle(bundle, backend, threads) as opened, host_errors():
        specs = [spec for spec in opened.artifact.io.inputs if seed is None or spec.kind.value in ("image", "label_map")]
        paths = inputs or []
        if len(paths) == len(specs):
            picture = opened(*(_read(path, spec) for path, spec in zip(paths, specs, strict=True)), seed=seed)
        else:
            picture = opened(*paths, seed=seed)  # refuses, and says what the generator takes
        with storage_errors(output):
            _write(picture, output)
        facts = opened.describe()
    height, width = picture.shape[:2]
    console.result(f"{output} ({width}x{height}, {opened.artifact.name} with {facts['backend']} {facts['version']})")


def _read(path: Path, spec: TensorSpec) -> Any:
    """Return the input that the file holds, brought to the generator's size."""
    import numpy as np

    from edgegen.data.calibration import Preprocess, Resample
    from edgegen.data.pictures import decode_label_map, decode_photo, read_file
    from edgegen.data.views import Frame, whole_view
    from edgegen.errors import DataError
    from edgegen.runtime.bundle import read_array

    content = read_file(path)
    if path.suffix.lower() == ".npy":
        return read_array(content, str(path))
    match spec.kind.value:
        case "label_map":
            image, resample = decode_label_map(content, path, classes=spec.channels), Resample.NEAREST  # ids do not mix
        case "image":
            mode = "L" if spec.channels == 1 else "RGB"
            image, resample = decode_photo(content, path, mode=mode, smallest_side=_UNREDUCED), Resample.BICUBIC
        case kind:
            raise DataError(f"{path} is not a .npy, but input '{spec.name}' is a {kind}", hint="or draw it: --seed 7")
    if image.size != (spec.width, spec.height):
        console.note(f"{path.name} is {image.width}x{image.height}: scaled and cut to {spec.width}x{spec.height}")
    return np.asarray(whole_view(image, Frame(spec.height, spec.width, Preprocess(resample=resample))))


def _require_writable(output: Path) -> None:
    """Refuse before the bundle is loaded what could not be written after it ran."""
    from edgegen.errors import DataError

    if output.suffix.lower() not in _WRITTEN:
        raise DataError(f"{output}: '{output.suffix}' cannot be written", hint="use one of " + ", ".join(_WRITTEN))
    if not output.parent.is_dir():
        raise DataError(f"{output.parent} is not a folder", hint="create it first")


def _write(picture: Any, output: Path) -> None:
    import numpy as np
    from PIL import Image

    from edgegen.errors import DataError

    if output.suffix.lower() == ".npy":
        np.save(output, picture, allow_pickle=False)
        return
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3):
        raise DataError(f"the output is a {picture.dtype} array of shape {picture.shape}, no picture", hint="write it as .npy")
    Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(
        output, quality=95
    )  # formats without a quality ignore it
