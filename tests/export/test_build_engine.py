"""build_engine.py builds what it is asked for, once, and says clearly why it cannot. No GPU: see fake_tensorrt."""

import ast
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import TensorProto, helper

import edgegen.export

SCRIPT = Path(edgegen.export.__file__).parent / "build_engine.py"
FAKE = Path(__file__).parent / "fake_tensorrt"
LIBCUDA = """
int cuInit(unsigned flags) { return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 0; return 0; }
int cuDeviceGetName(char *name, int length, int device) { __builtin_memcpy(name, "Orin", 5); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 8 : MINOR; return 0; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
"""


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a run ended: exit code and what it said."""

    code: int
    said: str


class Board:
    """A folder with the script and a model, as on the device."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = folder / "model.engine"
        shutil.copy(SCRIPT, folder)
        self.put_model("Relu")

    def put_model(self, *operations: str) -> None:
        ends = ["x", *(f"t{i}" for i in range(1, len(operations))), "y"]
        shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in "xy"]
        names = ["the_node", *(f"node_{i}" for i in range(1, len(operations)))]
        nodes = [helper.make_node(o, [ends[i]], [ends[i + 1]], name=names[i]) for i, o in enumerate(operations)]
        model = helper.make_model(helper.make_graph(nodes, "g", shape[:1], shape[1:]))
        (self.folder / "model.onnx").write_bytes(model.SerializeToString())

    def build(self, *arguments: str, version: str = "10.3.0", **environment: str) -> Ended:
        paths = {"PYTHONPATH": str(FAKE), "FAKE_TENSORRT_VERSION": version, **environment}
        done = subprocess.run(
            [sys.executable, "build_engine.py", *arguments],
            cwd=self.folder,
            env={**os.environ, **paths},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout == ""
        assert "Traceback" not in done.stderr, done.stderr
        return Ended(done.returncode, done.stderr)

    def plan(self) -> dict:
        return json.loads(self.engine.read_text())

    def key(self) -> dict:
        return json.loads((self.folder / "model.engine.json").read_text())


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


@pytest.mark.parametrize("version", ["10.3.0", "10.16.2", "11.4.1"])
def test_every_version_builds_a_strongly_typed_engine_with_a_key_beside_it(board: Board, version: str) -> None:
    assert board.build(version=version).code == 0
    assert board.plan()["strongly_typed"] is True
    assert board.key()["tensorrt"] == version
    assert not [name for name in os.listdir(board.folder) if name.startswith("model.engine.") and name != "model.engine.json"]


def test_a_second_run_builds_nothing(board: Board) -> None:
    board.build()
    before = board.engine.stat().st_mtime_ns
    ended = board.build()
    assert (ended.code, "up to date" in ended.said) == (0, True)
    assert board.engine.stat().st_mtime_ns == before


def test_another_tensorrt_version_builds_again(board: Board) -> None:
    board.build(version="10.3.0")
    assert "tensorrt changed" in board.build(version="10.16.2").said
    assert board.key()["tensorrt"] == "10.16.2"


def test_another_model_builds_again(board: Board) -> None:
    board.build()
    board.put_model("Abs")
    assert "onnx_sha256 changed" in board.build().said


def test_other_build_options_build_again(board: Board) -> None:
    board.build()
    assert "workspace_mib, tf32 changed" in board.build("--workspace-mib", "256", "--no-tf32").said
    assert board.plan()["workspace"] == 256 << 20
    assert board.plan()["tf32"] is False


def test_a_damaged_engine_is_built_again(board: Board) -> None:
    board.build()
    whole = board.engine.read_bytes()
    board.engine.write_bytes(whole[:-1])
    assert "not the one that its key describes" in board.build().said
    assert board.engine.read_bytes() == whole


@pytest.mark.parametrize("key", ["", "[1]", "{", "null"])
def test_a_damaged_key_builds_again(board: Board, key: str) -> None:
    board.build()
    (board.folder / "model.engine.json").write_text(key)
    assert board.build().code == 0
    assert board.key()["tensorrt"] == "10.3.0"


def test_check_tells_without_building(board: Board) -> None:
    assert board.build("--check").code == 1
    assert not board.engine.exists()
    board.build()
    assert board.build("--check").code == 0


def test_timings_are_kept_and_reused(board: Board) -> None:
    board.build("--timing-cache", "cache/timings.bin")
    assert board.plan()["warm_timings"] is False
    board.build("--timing-cache", "cache/timings.bin", "--force")
    assert board.plan()["warm_timings"] is True


def test_timings_of_another_version_are_dropped_with_a_note(board: Board) -> None:
    board.build("--timing-cache", "timings.bin")
    ended = board.build("--timing-cache", "timings.bin", version="10.16.2")
    assert (ended.code, "does not fit" in ended.said) == (0, True)
    assert b"10.16.2" in (board.folder / "timings.bin").read_bytes()


def test_a_refused_node_is_named(board: Board) -> None:
    board.put_model("DynamicQuantizeLinear")
    ended = board.build()
    assert ended.code == 5
    assert "node 'the_node': no importer for DynamicQuantizeLinear" in ended.said
    assert not board.engine.exists()


def test_a_file_that_is_no_onnx_is_refused(board: Board) -> None:
    (board.folder / "model.onnx").write_bytes(b"\xff" * 64)
    assert board.build().code == 5


@pytest.mark.parametrize("content", [None, b""])
def test_a_missing_or_empty_model_is_named(board: Board, content: bytes | None) -> None:
    (board.folder / "model.onnx").unlink()
    if content is not None:
        (board.folder / "model.onnx").write_bytes(content)
    ended = board.build()
    assert (ended.code, "model.onnx" in ended.said) == (3, True)


def test_an_old_tensorrt_is_refused(board: Board) -> None:
    ended = board.build(version="8.6.2")
    assert (ended.code, "older than 10" in ended.said) == (4, True)


def test_without_tensorrt_the_hint_says_how_to_get_it(board: Board) -> None:
    ended = board.build(PYTHONPATH="")
    assert (ended.code, "python3-libnvinfer" in ended.said) == (4, True)


def test_a_failed_build_leaves_the_old_engine_alone(board: Board) -> None:
    board.build()
    old = board.engine.read_bytes()
    assert board.build("--force", FAKE_TENSORRT_FAILS="1").code == 6
    assert board.engine.read_bytes() == old
    assert board.build("--check").code == 0


def test_a_child_killed_for_memory_becomes_an_error_with_a_hint(board: Board) -> None:
    ended = board.build("--child", FAKE_TENSORRT_DIES="1")
    assert (ended.code, "--workspace-mib" in ended.said) == (8, True)
    assert board.build("--child").code == 0


def test_a_board_of_8_gb_gets_caps_and_builds_in_a_child_that_the_kernel_ends_first(board: Board) -> None:
    assert board.build("--board-memory-mib", "7620").code == 0
    plan = board.plan()
    assert (plan["workspace"], plan["tactic_dram"], plan["oom_score_adj"]) == (952 << 20, 3810 << 20, 1000)
    assert board.build("--board-memory-mib", "7620", "--check").code == 0
    ended = board.build("--board-memory-mib", "7620", "--force", FAKE_TENSORRT_DIES="1")
    assert (ended.code, "most likely for memory" in ended.said) == (8, True)


def test_a_cap_of_the_user_is_kept_on_a_small_board(board: Board) -> None:
    board.build("--board-memory-mib", "7620", "--workspace-mib", "64")
    assert board.plan()["workspace"] == 64 << 20


def test_a_larger_board_is_left_alone(board: Board) -> None:
    board.build("--board-memory-mib", "32000")
    plan = board.plan()
    assert "workspace" not in plan and "tactic_dram" not in plan and plan["oom_score_adj"] != 1000
    assert "workspace_mib, tactic_mib changed" in board.build("--board-memory-mib", "7620").said


def test_the_dla_report_names_the_layers_that_go_to_the_gpu_and_counts_the_moves(board: Board) -> None:
    board.put_model("Conv", "InstanceNormalization", "Relu", "Resize")
    ended = board.build("--dla", FAKE_TENSORRT_DLA_CORES="2")
    assert ended.code == 0
    assert "takes 2 of 4 layers, 3 moves" in ended.said and "left to the GPU: NORMALIZATION, RESIZE" in ended.said
    report = json.loads((board.folder / "model.dla.json").read_text())
    assert [(row["layer"], row["dla"]) for row in report["layers"]] == [
        ("the_node", True), ("node_1", False), ("node_2", True), ("node_3", False)
    ]  # fmt: skip
    assert not board.engine.exists()


@pytest.mark.parametrize("version", ["10.3.0", "11.0.0"])
def test_a_board_without_a_dla_is_told_so(board: Board, version: str) -> None:
    ended = board.build("--dla", version=version, FAKE_TENSORRT_DLA_CORES="2" if version == "11.0.0" else "0")
    assert (ended.code, "finds no DLA here" in ended.said) == (4, True)


def test_a_folder_that_cannot_be_made_is_named(board: Board) -> None:
    ended = board.build("--engine", "model.onnx/engine")
    assert (ended.code, "cannot be written" in ended.said) == (7, True)


@pytest.mark.parametrize(
    "arguments", [["--workspace-mib", "0"], ["--workspace-mib", "lots"], ["--fp16"], ["--optimization-level", "9"]]
)
def test_wrong_usage_ends_with_2(board: Board, arguments: list[str]) -> None:
    assert board.build(*arguments).code == 2


def test_another_gpu_builds_again(board: Board) -> None:
    """A compiled stand-in for libcuda answers what the driver would."""
    for minor in ("7", "9"):
        (board.folder / "cuda.c").write_text(LIBCUDA)
        built = [f"-DMINOR={minor}", "-shared", "-fPIC", "-o", "libcuda.so.1", "cuda.c"]
        subprocess.run(["cc", *built], cwd=board.folder, check=True, timeout=60)
        said = board.build(LD_LIBRARY_PATH=str(board.folder)).said
        assert board.key()["gpu"] == {"name": "Orin", "compute_capability": f"8.{minor}", "cuda_driver": "12.6"}
    assert "gpu changed" in said


def test_the_script_is_python_3_8_and_standard_library_only() -> None:
    tree = ast.parse(SCRIPT.read_text(), feature_version=(3, 8))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
