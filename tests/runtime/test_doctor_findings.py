"""The device side of `edgegen doctor`: each back end tried in a process of its own, each failure with its fix."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgegen.runtime
from edgegen.runtime.backend_trial import TINY_BUNDLE
from edgegen.runtime.doctor import diagnose, try_backend
from edgegen.runtime.doctor_system import system_findings
from edgegen.runtime.finding import Finding, Health

ROOT = Path(edgegen.runtime.__file__).parents[2]


@pytest.mark.parametrize("name", ["openvino", "litert", "onnxruntime"])
def test_every_back_end_of_this_machine_runs_the_tiny_generator(name: str) -> None:
    found = try_backend(name)
    assert found.health == Health.OK.value and "runs the tiny generator" in found.reason, found


def test_a_back_end_that_is_not_installed_is_absent_with_the_way_to_get_it() -> None:
    found = try_backend("tensorrt")
    assert (found.health, found.reason) == (Health.ABSENT.value, "is not installed") and "JetPack" in found.fix


@pytest.mark.parametrize(
    ("name", "code", "said", "reason", "fix"),
    [
        ("litert", 1, "ImportError: /lib/libc.so.6: version `GLIBC_2.34' not found (required by /x/libLiteRt.so)",
         "needs glibc 2.34, this system has 2.31", "use onnxruntime"),
        ("litert", 1, "ImportError: libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by libLiteRt.so)",
         "needs a newer libstdc++ (GLIBCXX_3.4.30)", "Debian 12"),
        ("onnxruntime", 1, "ImportError: libgomp.so.1: cannot open shared object file: No such file or directory",
         "needs libgomp.so.1", "sudo apt install libgomp1"),
        ("tensorrt", 1, "libnvinfer.so.10: cannot open shared object file", "needs libnvinfer.so.10", "nvidia-jetpack"),
        ("openvino", 1, "ModuleNotFoundError: No module named 'openvino'", "is not installed", "-m pip install openvino"),
        ("litert", 1, "ImportError: numpy.core.multiarray failed to import", "was built for numpy 1", "pip install 'numpy<2'"),
        ("litert", -11, "", "died (SIGSEGV)", "QEMU_CPU"),
        ("openvino", 132, "", "died (SIGILL)", "an older version"),
        ("openvino", 1, "x\nRuntimeError: odd\n", "RuntimeError: odd", "reinstall it"),
    ],
)  # fmt: skip
def test_why_a_back_end_does_not_load_is_told_with_the_fix(name: str, code: int, said: str, reason: str, fix: str) -> None:
    found = diagnose(name, code, said, "2.31")
    assert reason in found.reason and fix in found.fix and found.health in (Health.FAILS.value, Health.ABSENT.value)


def test_a_wheel_whose_tag_promises_an_older_system_is_told(tmp_path: Path) -> None:
    about = tmp_path / "ai_edge_litert-2.3.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: ai-edge-litert\nVersion: 2.3.0\n")
    (about / "WHEEL").write_text("Tag: cp311-cp311-manylinux_2_27_aarch64\n")
    said = "version `GLIBC_2.34' not found"
    code = f"from edgegen.runtime.doctor import diagnose; print(diagnose('litert', 1, {said!r}, '2.31').reason)"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "needs glibc 2.34, this system has 2.31; its wheel claims manylinux_2_27 and is wrong"


def system(root: Path, files: dict[str, str]) -> dict[str, Finding]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {finding.name: finding for finding in system_findings(str(root))}


CPU = "sys/devices/system/cpu/cpu0/cpufreq/"


def test_a_board_at_rest_has_nothing_to_mend(tmp_path: Path) -> None:
    found = system(tmp_path, {
        CPU + "scaling_governor": "performance\n", CPU + "scaling_min_freq": "600000", CPU + "scaling_max_freq": "2400000",
        "proc/swaps": "Filename Type Size Used Priority\n", "proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 6000000 kB\n",
        "dev/dri/renderD128": "",
    })  # fmt: skip
    assert {finding.health for finding in found.values()} == {Health.OK.value}
    assert set(found) == {"clocks", "swap", "memory", "/dev/dri/renderD128"}


def test_what_spoils_times_is_noticed_with_the_command_that_mends_it(tmp_path: Path) -> None:
    found = system(tmp_path, {
        CPU + "scaling_governor": "ondemand", "proc/swaps": "Filename Type\n/dev/zram0 partition 4096 0 100\n",
        "proc/meminfo": "MemAvailable: 100000 kB\n", "etc/nv_tegra_release": "# R36 (release)",
    })  # fmt: skip
    assert found["clocks"].fix == "sudo jetson_clocks" and "ondemand" in found["clocks"].reason
    assert found["swap"].fix == "sudo swapoff -a" and "/dev/zram0" in found["swap"].reason
    assert "97 MiB" in found["memory"].reason
    assert {finding.health for finding in found.values()} == {Health.NOTICE.value}


def test_clocks_that_are_locked_need_no_governor(tmp_path: Path) -> None:
    found = system(
        tmp_path, {CPU + "scaling_governor": "schedutil", CPU + "scaling_min_freq": "1", CPU + "scaling_max_freq": "1"}
    )
    assert found["clocks"].health == Health.OK.value


def test_an_npu_without_a_driver_is_told(tmp_path: Path) -> None:
    found = system(tmp_path, {"sys/bus/pci/devices/0000:00:0b.0/class": "0x120000\n"})
    assert "without a driver" in found["NPU"].reason and "intel_vpu" in found["NPU"].fix
    (tmp_path / "sys/bus/pci/devices/0000:00:0b.0/driver").mkdir()
    assert system(tmp_path, {}) == {}


def test_a_device_that_is_closed_to_this_user_names_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = tmp_path / "dev" / "accel" / "accel0"
    node.parent.mkdir(parents=True)
    node.touch(mode=0o660)
    group = next(line.split(":") for line in Path("/etc/group").read_text().splitlines() if line.split(":")[2] != "0")
    if os.getuid() == 0:
        os.chown(node, 0, int(group[2]))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may do everything
    found = system(tmp_path, {})["/dev/accel/accel0"]
    assert found.health == Health.FAILS.value and "the NPU is not open to this user" in found.reason
    assert "usermod -aG" in found.fix or "chmod" in found.fix


def test_nothing_that_can_be_read_is_no_finding(tmp_path: Path) -> None:
    assert system_findings(str(tmp_path)) == []


def test_the_tiny_generator_is_small_and_its_command_prints_lines(tmp_path: Path) -> None:
    assert Path(TINY_BUNDLE).stat().st_size < 32_000
    done = subprocess.run(
        [sys.executable, "-m", "edgegen.runtime.backend_trial", "onnxruntime"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["health"] == "ok"
