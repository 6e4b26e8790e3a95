"""Make edgegen/runtime/tiny_bundle.zip, the tiny generator of `edgegen doctor`: `python tests/runtime/tiny_bundle.py`.

Two convolutions on a picture of 24 x 32, as OpenVINO IR, .tflite and ONNX, with two stored cases.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import small_bundles  # noqa: E402

from edgegen.bundle import pack_bundle, write_bundle  # noqa: E402

GOAL = ROOT / "edgegen" / "runtime" / "tiny_bundle.zip"


def make(goal: Path) -> Path:
    """Write the bundle as `goal` and return it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        small = small_bundles.style(folder / "openvino")
        artifacts = [
            small.artifact,
            small_bundles.litert_artifact(small.module, small.spec, folder / "litert"),
            small_bundles.onnx_artifact(small.module, small.spec, folder / "onnx"),
        ]
        manifest = small.manifest(name="tiny")
        bundle = write_bundle(folder / "tiny", manifest=manifest, artifacts=artifacts, cases=small.cases(2, min_psnr_db=40.0))
        return pack_bundle(bundle, goal)


if __name__ == "__main__":
    make(GOAL)
