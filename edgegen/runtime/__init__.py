"""The part that goes to the device: opens a bundle, checks it and runs it, with numpy and one back end.

    import edgegen.runtime
    generator = edgegen.runtime.open("out/bundle")
    picture = generator(camera_frame)          # uint8 (H, W, C) in, uint8 (H, W, C) out
    picture = generator(seed=7)                # generators that start from a latent

It imports nothing of the rest of edgegen and runs on Python >= 3.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Union

if TYPE_CHECKING:
    import os

    from edgegen.runtime.bundle import OpenBundle

__all__ = ["open"]


def open(bundle: Union[str, os.PathLike[str]], backend: Optional[str] = None, threads: int = 0) -> OpenBundle:
    """Open the bundle folder or .zip at `bundle` and return what runs it.

    `backend` picks an artifact by back end ("openvino") or by name ("openvino/int8"); None takes the preferred one. `threads` 0
    leaves the number to the back end. Raises RuntimeBundleError for a bundle that is not exactly as it was written.
    """
    from edgegen.runtime.bundle import open_bundle

    return open_bundle(bundle, backend, threads)
