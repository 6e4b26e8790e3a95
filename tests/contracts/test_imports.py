"""Who may import whom, and what must not be imported to answer a simple question."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import edgegen

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "torch", "openvino", "nncf", "onnx", "onnxruntime", "scipy", "matplotlib", "accelerate", "torch_pruning", "litert_torch",
    "ai_edge_litert", "ai_edge_quantizer", "jinja2", "safetensors", "PIL",
}  # fmt: skip
COMMANDS = (
    "plan", "compress", "sweep", "inspect", "preflight", "run", "bench", "report", "targets", "cp", "doctor", "compare",
    "calibrate",
)  # fmt: skip


def modules_loaded_by(*arguments: str) -> set[str]:
    """Return the top-level packages that a fresh Python imports while it runs `arguments`, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {match.split(".")[0] for match in re.findall(r"^import time:.*\|\s+([\w.]+)$", done.stderr, flags=re.MULTILINE)}


def test_importing_edgegen_loads_neither_torch_nor_numpy() -> None:
    assert modules_loaded_by("-c", "import edgegen") & (HEAVY | {"numpy", "typer", "rich"}) == set()


@pytest.mark.parametrize("command", [(), *((command,) for command in COMMANDS)])
def test_help_loads_nothing_heavy(command: tuple[str, ...]) -> None:
    assert modules_loaded_by("-m", "edgegen.cli.main", *command, "--help") & HEAVY == set()


def test_listing_targets_loads_nothing_heavy() -> None:
    assert modules_loaded_by("-m", "edgegen.cli.main", "targets") & HEAVY == set()


def test_the_device_side_opens_without_anything_of_the_host() -> None:
    loaded = modules_loaded_by("-c", "import edgegen.runtime, edgegen.runtime.__main__, edgegen.runtime.bundle")
    assert loaded & (HEAVY | {"typer", "rich"}) == set()


@pytest.mark.parametrize("name", edgegen.__all__)
def test_a_public_name_resolves_and_is_documented(name: str) -> None:
    assert getattr(edgegen, name).__doc__


@pytest.mark.parametrize("name", edgegen.__all__)
def test_a_public_name_is_not_that_of_a_submodule(name: str) -> None:
    assert not (ROOT / "edgegen" / name).exists() and not (ROOT / "edgegen" / f"{name}.py").exists()


def test_all_public_names_are_listed_by_dir() -> None:
    assert set(edgegen.__all__) <= set(dir(edgegen))


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'compres'"):
        _ = edgegen.compres


@pytest.mark.slow
def test_imports_go_one_way() -> None:
    script = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([script, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]


def test_stage_packages_stay_on_one_layer_of_the_import_contract() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    stages = ("load", "rewrite", "prune", "distill", "quantize", "export", "quality", "bundle")
    assert " | ".join(f"edgegen.{stage}" for stage in stages) in text
