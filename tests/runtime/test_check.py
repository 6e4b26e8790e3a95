"""The device proves itself: `python -m edgegen.runtime` with nothing but numpy and one back end."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import small_bundles

import edgegen.runtime
from edgegen.runtime.check import check
from edgegen.runtime.latents import latent
from edgegen.runtime.ppm import read_ppm, write_ppm

ROOT = Path(__file__).resolve().parents[2]

# starts the runtime in a process in which everything of the host cannot be imported
BLOCKED = """
import sys, runpy
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "onnx", "nncf", "typer", "rich", "PIL", "scipy", "pydantic", "safetensors"}:
            raise ModuleNotFoundError(name + " is blocked")
        if name.startswith("edgegen.") and not name.startswith("edgegen.runtime"):
            raise ModuleNotFoundError(name + " is not part of the runtime")
sys.meta_path.insert(0, Absent())
sys.argv[0] = "edgegen.runtime"
runpy.run_module("edgegen.runtime", run_name="__main__", alter_sys=True)
"""


def call(*arguments: object, python: Path | str = sys.executable, code: str = BLOCKED) -> subprocess.CompletedProcess[str]:
    line = [str(python), "-c", code, *(str(a) for a in arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_stored_cases_pass_without_torch_and_the_host(style_bundle: Path) -> None:
    done = call("check", style_bundle)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("ok   00: ")
    assert done.stdout.splitlines()[-1].endswith("3 of 3 cases pass")


@pytest.mark.slow
def test_the_stored_cases_pass_in_an_environment_of_numpy_and_one_back_end(style_bundle: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "device", with_pip=True)
    python = tmp_path / "device" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "numpy", "openvino"], check=True, timeout=600)
    absent = call(python=python, code="import torch")
    assert "No module named 'torch'" in absent.stderr
    done = call("check", style_bundle, python=python)
    assert done.returncode == 0 and "3 of 3 cases pass" in done.stdout, done.stderr


def test_the_result_as_json_tells_every_case_and_what_ran(style_bundle: Path) -> None:
    found = json.loads(call("check", "--json", style_bundle).stdout)
    assert found["passed"] is True and found["artifact"] == "openvino/f32"
    assert [case["name"] for case in found["cases"]] == ["00", "01", "02"]
    assert found["cases"][0]["psnr_db"] > 60 and found["ran"]["backend"] == "openvino"


def test_an_artifact_that_does_something_else_fails_with_exit_code_1(
    style: small_bundles.Small, from_labels: small_bundles.Small, tmp_path: Path
) -> None:
    cases = [style.case(seed, 45.0) for seed in range(2)]
    wrong = [small_bundles.BundleCase(c.name, c.inputs, (-c.outputs[0],), c.min_psnr_db) for c in cases]
    bundle = small_bundles.write_bundle(tmp_path / "b", manifest=style.manifest(), artifacts=[style.artifact], cases=wrong)
    done = call("check", bundle)
    assert done.returncode == 1
    assert "FAIL 00" in done.stdout and "0 of 2 cases pass" in done.stdout


def test_a_bundle_without_cases_proves_nothing_and_fails(style: small_bundles.Small, tmp_path: Path) -> None:
    with edgegen.runtime.open(style.write(tmp_path / "b", count=0)) as bundle:
        assert not check(bundle).passed


def test_an_output_with_nan_fails_and_is_counted(tmp_path: Path) -> None:
    import torch
    from torch import nn

    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.log(x - 0.5)  # NaN for every input below

    small = small_bundles.style(tmp_path / "a")
    artifact = small_bundles.openvino_artifact(Broken().eval(), small.spec, tmp_path / "b")
    bundle = small_bundles.write_bundle(
        tmp_path / "bundle", manifest=small.manifest(), artifacts=[artifact], cases=small.cases(1)
    )
    with edgegen.runtime.open(bundle) as opened:
        (case,) = check(opened).cases
    assert not case.passed and case.nan > 0 and case.psnr_db is None


def test_a_picture_is_read_and_written_without_the_host(style_bundle: Path, tmp_path: Path) -> None:
    photo = np.random.default_rng(1).integers(0, 256, (small_bundles.HEIGHT, small_bundles.WIDTH, 3), np.uint8)
    (tmp_path / "in.ppm").write_bytes(write_ppm(photo))
    np.save(tmp_path / "in.npy", photo)
    for source, goal in (("in.ppm", "out.npy"), ("in.npy", "out.ppm")):
        done = call("run", style_bundle, "--input", tmp_path / source, "--output", tmp_path / goal)
        assert done.returncode == 0, done.stderr
    with edgegen.runtime.open(style_bundle) as generator:
        expected = generator(photo)
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected)
    assert np.array_equal(read_ppm((tmp_path / "out.ppm").read_bytes(), "out.ppm"), expected)


def test_a_seed_is_drawn_without_the_host(from_latent: small_bundles.Small, tmp_path: Path) -> None:
    bundle = from_latent.write(tmp_path / "bundle")
    assert call("run", bundle, "--seed", 7, "--output", tmp_path / "seed.npy").returncode == 0
    np.save(tmp_path / "latent.npy", latent(from_latent.spec.inputs[0], 7)[0])
    assert call("run", bundle, "--input", tmp_path / "latent.npy", "--output", tmp_path / "given.npy").returncode == 0
    assert np.array_equal(np.load(tmp_path / "seed.npy"), np.load(tmp_path / "given.npy"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("check", "nowhere"), 10, "nowhere does not exist"),
        (("check", "BUNDLE", "--backend", "litert"), 10, "no artifact 'litert'"),
        (("run", "BUNDLE", "--output", "x.npy"), 7, "0 inputs given"),
        (("run", "BUNDLE", "--input", "nowhere.ppm", "--output", "x.npy"), 7, "nowhere.ppm: No such file"),
        (("run", "BUNDLE", "--seed", "7", "--output", "x.png"), 7, "x.png: only .npy"),
        (("dance", "BUNDLE"), 2, "invalid choice"),
    ],
    ids=["no bundle", "no such artifact", "no input", "missing input", "unknown output", "unknown command"],
)
def test_failures_are_one_sentence_and_a_code(style_bundle: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = call(*(str(style_bundle) if a == "BUNDLE" else a for a in arguments))
    assert done.returncode == code, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr


def test_timing_prints_raw_samples(style_bundle: Path) -> None:
    options = ("--threads", 1, "--min-runs", 30, "--min-seconds", 0.05, "--burst-seconds", 0.02)
    done = call("time", style_bundle, *options)
    found = json.loads(done.stdout)
    assert len(found["sustained"]["samples_ns"]) >= 30 and found["sustained"]["duration_ns"] >= 50_000_000
    assert found["burst"]["warmup_runs"] >= 20 and found["sustained"]["warmup_runs"] == 0
    assert found["load_ns"] > found["compile_ns"] > 0 and found["first_inference_ns"] > 0
    assert found["vm_hwm_bytes"] > found["vm_hwm_at_start_bytes"] > 0
    assert found["ran"]["threads"] == 1


def test_cold_timing_stops_after_the_first_runs(style_bundle: Path) -> None:
    assert "sustained" not in json.loads(call("time", "--cold", style_bundle).stdout)
