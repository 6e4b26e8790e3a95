"""The .tflite files in the hands of others: LiteRT's predecessor on old boards, and Arm's compiler for the Ethos-U65.

Both need environments of their own (numpy 1, their own flatbuffers): made once per run, with pip.
"""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_tflite import CASES, Case, generator_of, inputs_of, psnr_db

from edgegen.artifact import Artifact
from edgegen.export.tflite import export_litert
from edgegen.rewrite.litert import lower_for_litert
from edgegen.runtime.runners import open_runner
from edgegen.spec import Layout, Precision

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
RUN = """
import json, sys
import numpy as np
from edgegen.runtime.manifest import ArtifactEntry
from edgegen.runtime.runners import open_runner
folder, entry, inputs, result = sys.argv[1:]
runner = open_runner(folder, ArtifactEntry.from_json(json.load(open(entry))), 1)
given = np.load(inputs)
np.save(result, runner.run([given[name] for name in sorted(given.files)])[0])
print(runner.describe()["package"], runner.describe()["version"])
"""


@dataclasses.dataclass(frozen=True)
class Made:
    """One case with its artifacts by precision, one input in the layout of the files, and torch's picture of it (N, H, W, C)."""

    case: Case
    artifacts: dict[Precision, Artifact]
    fed: list[np.ndarray]
    expected: np.ndarray


def environment(folder: Path, *packages: str) -> Path:
    """Return the python of a new virtual environment with `packages`."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=300)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True, timeout=900)
    return python


@pytest.fixture(scope="session")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("old") / "venv", "tflite-runtime==2.14.0", "numpy<2")


@pytest.fixture(scope="session")
def vela(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("vela") / "venv", "ethos-u-vela==5.2.0").with_name("vela")


NAMED = {
    "dcgan with a dense stem",
    "u-net with a concatenated skip",
    "space to depth, separable, nearest upsampling",
    "two inputs",
}


@pytest.fixture(scope="session", params=[case for case in CASES if case.name in NAMED], ids=lambda case: case.name)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    case = request.param
    generator = generator_of(case.net, *case.shapes)
    calibration = [inputs_of(generator, seed) for seed in range(1, 9)]
    precisions = (Precision.F32, Precision.F16, Precision.INT8_FULL)
    artifacts = export_litert(lower_for_litert(generator), precisions, calibration, tmp_path_factory.mktemp("files"))
    arrays = inputs_of(generator, 0)
    ports = artifacts[0].entry.io.inputs
    fed = [
        np.ascontiguousarray(a.transpose(0, 2, 3, 1) if t.layout is Layout.HWC else a) for a, t in zip(arrays, ports, strict=True)
    ]
    with torch.no_grad():
        expected = generator.module(*map(torch.from_numpy, arrays)).numpy().transpose(0, 2, 3, 1)
    return Made(case, dict(zip(precisions, artifacts, strict=True)), fed, expected)


def picture_in(python: Path, artifact: Artifact, fed: list[np.ndarray], folder: Path) -> np.ndarray:
    """Run an artifact by edgegen.runtime in another environment."""
    (folder / "entry.json").write_text(json.dumps(artifact.entry.to_json()))
    np.savez(folder / "inputs.npz", **{f"x{i}": array for i, array in enumerate(fed)})
    arguments = [str(artifact.folder), *(str(folder / name) for name in ("entry.json", "inputs.npz", "picture.npy"))]
    done = subprocess.run(
        [str(python), "-c", RUN, *arguments], capture_output=True, text=True, timeout=300, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "tflite-runtime 2.14.0"
    return np.load(folder / "picture.npy")


def test_every_flavour_runs_in_tflite_runtime_with_the_same_pictures(made: Made, old_python: Path, tmp_path: Path) -> None:
    for precision, artifact in made.artifacts.items():
        old = picture_in(old_python, artifact, made.fed, tmp_path)
        runner = open_runner(artifact.folder, artifact.entry, 1)
        (new,) = runner.run(made.fed)
        runner.close()
        if precision is not Precision.INT8_FULL:
            assert np.abs(old - new).max() < 1e-5  # rounding of sums in another order
            continue
        steps = np.abs(old - new) * 128  # the steps of tanh's int8 output
        if "LEAKY_RELU" in artifact.facts["operations"]:
            assert steps.mean() < 2  # 1.3 seen: XNNPACK's int8 LEAKY_RELU is up to two steps away from the plain kernel
        else:
            # Kernels round one step apart in front of tanh, which makes up to 3 of it: 5 % of a DCGAN's values, 2 % of others'.
            assert (steps > 1).mean() < 0.1 and steps.max() <= 4
        assert psnr_db(old, made.expected) > psnr_db(new, made.expected) - 1.0


def test_vela_puts_every_operation_of_a_full_integer_file_on_the_npu(made: Made, vela: Path, tmp_path: Path) -> None:
    artifact = made.artifacts[Precision.INT8_FULL]
    assert artifact.facts["refused_by"]["ethos-u65"] == []
    path = artifact.folder / artifact.entry.entry
    command = [str(vela), str(path), "--accelerator-config", "ethos-u65-256", "--output-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert re.search(r"CPU operators = 0 \(0\.0%\)", done.stdout), done.stdout
    assert (tmp_path / "generator_vela.tflite").stat().st_size > 0
