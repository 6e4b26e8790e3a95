"""The device side on the boards: the same bundle gives the same pictures as on this machine, or says why it cannot run."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_bundles

from device_rig.boards import VirtualBoard
from edgegen.bundle import pack_bundle, write_bundle
from edgegen.device.runtime_archive import package_root, runtime_archive
from edgegen.spec import Backend

pytestmark = pytest.mark.slow
LAST_PLACE = 1  # 8-bit levels: sums of floats are added in another order, which may round a pixel the other way
DRAW = """
import json, platform, sys
import numpy as np
import edgegen.runtime
from edgegen.runtime.check import check
bundle, backend, photo, picture = sys.argv[1:]
with edgegen.runtime.open(bundle, backend) as opened:
    np.save(picture, opened(np.load(photo)), allow_pickle=False)
    print(json.dumps({**check(opened).to_json(), "machine": platform.machine()}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bundle.zip, pictures from pictures for three back ends in float32, and photo.npy for it."""
    folder = tmp_path_factory.mktemp("bundle")
    small = small_bundles.style(folder / "openvino")
    artifacts = [
        small.artifact, small_bundles.litert_artifact(small.module, small.spec, folder / "litert"),
        small_bundles.onnx_artifact(small.module, small.spec, folder / "onnx", Backend.ONNXRUNTIME),
    ]  # fmt: skip
    written = write_bundle(folder / "bundle", manifest=small.manifest(), artifacts=artifacts, cases=small.cases(2))
    pack_bundle(written, folder / "bundle.zip")
    photo = np.random.default_rng(3).integers(0, 256, (small_bundles.HEIGHT, small_bundles.WIDTH, 3), np.uint8)
    np.save(folder / "photo.npy", photo)
    (folder / "draw.py").write_text(DRAW)
    return folder


@pytest.fixture(scope="module")
def supply(folder: Path) -> Callable[[VirtualBoard], None]:
    """Send the runtime, the bundle, the photo and draw.py to a board, once."""
    supplied: set[str] = set()

    def send(board: VirtualBoard) -> None:
        if board.model.name in supplied:
            return
        for name in ("bundle.zip", "photo.npy", "draw.py"):
            assert board.run(f"cat > {name}", given=(folder / name).read_bytes()).returncode == 0
        assert board.run("cat > runtime.zip", given=runtime_archive()).returncode == 0
        supplied.add(board.model.name)

    return send


@pytest.mark.parametrize(
    ("board", "backend", "package"),
    [
        ("debian12", "openvino", "openvino 2026.4.1"), ("debian12", "litert", "ai-edge-litert 2.3.0"),
        ("debian12", "onnxruntime", "onnxruntime 1.32.0"), ("tflite", "litert", "tflite-runtime 2.14.0"),
        ("debian11", "onnxruntime", "onnxruntime 1.19.2"),
    ],
    indirect=["board"],
)  # fmt: skip
def test_a_board_draws_the_same_picture_as_this_machine(
    board: VirtualBoard, backend: str, package: str, folder: Path, supply: Callable[[VirtualBoard], None]
) -> None:
    supply(board)
    line = [sys.executable, str(folder / "draw.py"), str(folder / "bundle.zip"), backend, str(folder / "photo.npy")]
    subprocess.run([*line, str(folder / "x86.npy")], cwd=folder, env=with_package_root(), check=True, timeout=300)
    done = board.run(f"PYTHONPATH=runtime.zip python3 draw.py bundle.zip {backend} photo.npy arm.npy")
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["machine"] == "aarch64"
    assert found["passed"]
    assert all(case["max_abs"] <= LAST_PLACE for case in found["cases"])
    name, version = package.split()
    assert found["ran"].get("package", found["ran"]["backend"]) == name
    assert found["ran"]["version"].startswith(version)
    x86, arm = np.load(folder / "x86.npy"), np.load(io.BytesIO(board.run("cat arm.npy").stdout))
    assert x86.std() > 10  # a grey picture would prove nothing
    assert np.abs(x86.astype(int) - arm.astype(int)).max() <= LAST_PLACE


@pytest.mark.parametrize(("backend", "library"), [("litert", "GLIBCXX_3.4.29"), ("openvino", "GLIBC_2.34")])
def test_a_back_end_that_is_too_new_for_the_boards_libraries_names_what_it_misses(
    debian11: VirtualBoard, backend: str, library: str, supply: Callable[[VirtualBoard], None]
) -> None:
    supply(debian11)
    refused = debian11.run(f"PYTHONPATH=runtime.zip python3 -m edgegen.runtime check --backend {backend} bundle.zip")
    said = refused.stderr.decode()
    assert refused.returncode == 8
    assert library in next(line for line in said.splitlines() if line.startswith("error: "))
    assert "Traceback" not in said


def with_package_root() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(package_root())}
