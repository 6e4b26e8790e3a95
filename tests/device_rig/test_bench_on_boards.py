"""A compressed generator is measured here and on a board in one go; doctor and bench say what a board lacks."""

from __future__ import annotations

from pathlib import Path

import pipeline_runs
import pytest
import small_bundles
from typer.testing import CliRunner

from device_rig.boards import VirtualBoard
from edgegen.bench import BenchPlan, read_record
from edgegen.bench.board_table import measure_board_grid
from edgegen.bundle import write_bundle
from edgegen.cli.main import app
from edgegen.device import choose_members, open_transport, parse_address
from edgegen.doctor import examine
from edgegen.errors import DeviceError
from edgegen.fleet import measure_fleet
from edgegen.latency.grid import Grid
from edgegen.progress import Silent
from edgegen.runtime.finding import Health
from edgegen.spec import Backend, Precision
from edgegen.target import load_target

pytestmark = pytest.mark.slow
SHORT = BenchPlan(threads=1, min_runs=4, min_seconds=0.0, processes=1, cold_processes=1)


def compressed(folder: Path, target: str) -> Path:
    """Return the bundle of the tiny generator for `target`, made without training."""
    pipeline_runs.write_latent_checkpoint(folder)
    pipeline_runs.run(folder, target=target, recipe=pipeline_runs.write_recipe(folder, trains=False))
    return folder / "out" / "bundle"


@pytest.mark.parametrize(
    ("board", "target", "artifact", "least_db"),
    [("debian12", "raspberry-pi-5", "litert int8", None), ("tflite", "imx8m-plus", "litert f32", 60.0)],
    indirect=["board"],
)  # fmt: skip
def test_one_command_measures_this_machine_and_a_board_in_one_table_and_one_page(
    board: VirtualBoard, target: str, artifact: str, least_db: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards = "".join(f'[[devices]]\nname = "{name}"\nurl = "{url}"\n' for name, url in (("desk", "local:"), ("shelf", board.url)))
    (tmp_path / "devices.toml").write_text(f'schema = "edgegen.devices/1"\n{boards}')
    monkeypatch.setenv("COLUMNS", "100")
    line = ["bench", compressed(tmp_path, target), "--device", "all", "--devices", tmp_path / "devices.toml", "--threads", 1]
    line += ["--min-runs", 4, "--min-seconds", 0, "--processes", 1, "--out", tmp_path / "records"]
    done = CliRunner().invoke(app, [str(word) for word in line])
    assert done.exit_code == 0, (done.output, done.exception)
    rows = [text for text in done.stdout.splitlines() if text.strip().startswith(("desk", "shelf"))]
    assert done.stdout.count("on 2 devices") == 1
    assert len(rows) == 2
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert all(word in done.stdout for word in ("host", target, artifact.split()[0]))
    here, there = (read_record(tmp_path / "records" / f"{name}.json") for name in ("desk", "shelf"))
    assert (there.target.id, there.target.match) == (target, "exact")  # by its own files: nobody named it
    assert f"{there.artifact.backend} {there.artifact.precision}" == artifact
    assert (here.target.machine, there.target.machine) == ("x86_64", "aarch64")
    assert (here.target.emulated, there.target.emulated) == (False, True)
    assert there.target.board == board.model.identity.files["proc/device-tree/model"].strip("\0")
    assert not there.validity.valid
    assert "the processor is emulated: its times mean nothing" in there.validity.reasons
    assert here.quality.passed
    assert there.quality.passed
    if least_db is None:  # int8 of one LiteRT is bit for bit the same on both, so as far from the float student on both
        assert there.quality.psnr_db_min == here.quality.psnr_db_min
    else:  # another version of the back end there, whose sums round some pixels the other way
        assert there.quality.psnr_db_min is not None
        assert there.quality.psnr_db_min > least_db
    has_peaks = load_target(target).memory_bytes_per_s is not None
    assert (there.prediction is not None) is has_peaks  # beside what was measured: worthless here, as all of its times
    page = (tmp_path / "records" / "devices.html").read_text(encoding="utf-8")
    assert page.count("<table>") == 1
    assert all(text in page for text in ("desk", "shelf", there.target.board, "2 of 2 measured", "emulated"))
    assert ("foretold" in page) is has_peaks


@pytest.mark.parametrize(
    ("board", "target", "backend", "precision"),
    [
        # in float: OpenVINO's int8 kernel of the linear layer mostly aborts under the emulator
        ("debian12", "raspberry-pi-5", Backend.OPENVINO, Precision.F32),
        ("tflite", "imx8m-plus", Backend.LITERT, Precision.INT8),
    ],
    indirect=["board"],
)
def test_layers_are_measured_on_a_board_and_marked_as_emulated(
    board: VirtualBoard, target: str, backend: Backend, precision: Precision, tmp_path: Path
) -> None:
    transport = open_transport(parse_address(board.url))
    grid = Grid(channels=(8,), sides=())  # the linear layer alone: compiling a convolution takes the emulator seconds
    settings = {"precision": precision, "threads": 1, "grid": grid, "progress": Silent(), "backend": backend}
    table = measure_board_grid(transport, target, tmp_path, **settings)
    transport.close()
    facts = table.facts()
    assert (facts["machine"], facts["emulated"], facts["backend"]) == ("aarch64", True, backend.value)
    assert facts.get("package") == ("tflite-runtime" if backend is Backend.LITERT else None)
    assert facts["measured_now"] == facts["lines"]
    assert all(table.known(work) is not None for work in grid.works())


def test_the_old_board_is_measured_with_the_onnxruntime_that_it_has(debian11: VirtualBoard, tmp_path: Path) -> None:
    small = small_bundles.style(tmp_path / "openvino")
    artifact = small_bundles.onnx_artifact(small.module, small.spec, tmp_path / "onnx", Backend.ONNXRUNTIME)
    manifest = small.manifest(preferred=artifact.name)
    bundle = write_bundle(tmp_path / "bundle", manifest=manifest, artifacts=[artifact], cases=small.cases(2, min_psnr_db=60.0))
    (outcome,) = measure_fleet(bundle, SHORT, choose_members([debian11.url], tmp_path / "devices.toml"))
    assert outcome.record is not None, outcome.failure
    assert outcome.record.quality.passed
    assert outcome.record.target.emulated
    assert outcome.record.target.board == "NVIDIA Jetson Orin Nano Developer Kit"
    assert (outcome.record.target.runtime.name, outcome.record.target.runtime.version) == ("onnxruntime", "1.19.2")


def test_a_board_without_python_fails_alone_and_says_what_it_lacks(busybox: VirtualBoard, tmp_path: Path) -> None:
    bundle = small_bundles.from_latent(tmp_path / "artifact").write(tmp_path / "bundle")
    (outcome,) = measure_fleet(bundle, SHORT, choose_members([busybox.url], tmp_path / "devices.toml"))
    assert isinstance(outcome.failure, DeviceError)
    assert "has no Python >= 3.8" in outcome.failure.message


def test_doctor_tells_what_an_old_c_library_cannot_run_and_that_onnxruntime_runs(debian11: VirtualBoard) -> None:
    transport = open_transport(parse_address(debian11.url))
    try:
        diagnosis = examine(transport)
    finally:
        transport.close()
    found = {finding.name: finding for finding in diagnosis.findings}
    assert {name: found[name].health for name in ("openvino", "litert", "onnxruntime")} == {
        "openvino": Health.FAILS.value, "litert": Health.FAILS.value, "onnxruntime": Health.OK.value,
    }  # fmt: skip
    assert found["openvino"].reason == "needs glibc 2.34, this system has 2.31"
    assert found["litert"].reason == "needs a newer libstdc++ (GLIBCXX_3.4.29)"
    assert all("onnxruntime" in found[name].fix for name in ("openvino", "litert"))
    assert diagnosis.usable
