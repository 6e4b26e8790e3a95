"""Target profiles: every built-in one obeys the schema, predictions follow from evidence, and bad profiles are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgegen.errors import TargetError
from edgegen.resources import resource_folder, resource_names
from edgegen.spec import Backend, Precision
from edgegen.target import Evidence, list_targets, load_target, read_target, resolve_target


def edited(folder: Path, *replacements: tuple[str, str], name: str = "jetson-orin-nano") -> Path:
    """Write a built-in profile with replacements and return its path."""
    text = (resource_folder("targets") / f"{name}.toml").read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", resource_names("targets"))
def test_a_built_in_target_obeys_the_schema(name: str) -> None:
    profile = load_target(name)
    assert profile.id == name
    assert profile.local == (name == "host")
    assert profile.local == (profile.predict is None)
    json.dumps(profile.to_json())
    for key, figure in profile.figures().items():
        assert figure.evidence is not Evidence.SEEN or figure.source, key


@pytest.mark.parametrize("name", [name for name in resource_names("targets") if name != "host"])
def test_a_device_that_is_not_here_can_be_predicted_at_its_best_precisions(name: str) -> None:
    profile = load_target(name)
    assert profile.memory_bytes_per_s is not None
    for precision in profile.precisions:
        assert profile.macs_per_s(precision) is not None, precision


def test_the_targets_of_the_documentation_exist_and_host_comes_first() -> None:
    assert [profile.id for profile in list_targets()] == [
        "host", "automotive-orin", "intel-n100", "jetson-agx-orin", "jetson-orin-nano", "raspberry-pi-5", "snapdragon-xr2-gen2",
    ]  # fmt: skip


def test_host_is_measured_and_nothing_about_it_is_predicted() -> None:
    host = load_target("host")
    assert (host.backend, host.local) == (Backend.OPENVINO, True)
    assert [host.macs_per_s(precision) for precision in Precision] == [None] * len(Precision)
    assert host.memory_bytes_per_s is None


def test_a_peak_is_halved_to_macs_and_derated() -> None:
    nano = load_target("jetson-orin-nano")
    assert nano.macs_per_s(Precision.INT8) == pytest.approx(33e12 / 2 * 0.2)
    assert nano.macs_per_s(Precision.F16) == pytest.approx(17e12 / 2 * 0.2)
    assert nano.memory_bytes_per_s == pytest.approx(102.4e9 * 0.7)


def test_sparse_tops_are_never_predicted_with(tmp_path: Path) -> None:
    dense = 'int8_tops_dense = { value = 33, evidence = "S", source = "jetson-super" }\n'
    assert read_target(edited(tmp_path, (dense, ""))).macs_per_s(Precision.INT8) is None


@pytest.mark.parametrize(
    ("alias", "board", "budget_s"),
    [
        ("jetson", "jetson-orin-nano", None),
        ("smart-home", "raspberry-pi-5", 0.3),
        ("ar", "snapdragon-xr2-gen2", 0.0139 * 0.3),
        ("automotive", "automotive-orin", 0.0333 * 0.6),
        ("jetson-agx-orin", "jetson-agx-orin", None),
    ],
)
def test_an_alias_sets_its_usual_board_and_frame_budget(alias: str, board: str, budget_s: float | None) -> None:
    profile, found_s = resolve_target(alias)
    assert profile.id == board
    assert found_s == (None if budget_s is None else pytest.approx(budget_s))


def test_an_alias_belongs_to_one_target_and_is_no_id() -> None:
    profiles = list_targets()
    words = [word for profile in profiles for word in (profile.id, *profile.aliases)]
    assert len(set(words)) == len(words)


def test_a_power_mode_on_the_nano_is_not_what_its_number_suggests() -> None:
    modes = {mode.name: mode.nvpmodel_id for mode in load_target("jetson-orin-nano").power_modes}
    assert modes == {"15W": 0, "25W": 1, "MAXN_SUPER": 2, "7W": 3}


def test_software_rows_tie_jetpack_to_tensorrt_and_python() -> None:
    rows = {
        (row.jetpack, row.tensorrt, row.cuda, row.python) for row in load_target("jetson-orin-nano").software if row.supported
    }
    assert {("6.2", "10.3", "12.6", "3.10"), ("7.2", "10.16.2", "13.2", "3.12")} <= rows
    assert "11.4.1" not in {row.tensorrt for row in load_target("jetson-orin-nano").software}  # AGX Orin only
    assert "11.4.1" in {row.tensorrt for row in load_target("jetson-agx-orin").software}


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(TargetError, match="'jetson-orin-nao' is unknown") as caught:
        load_target("jetson-orin-nao")
    assert "'jetson-orin-nano'" in caught.value.hint


def test_a_profile_of_ones_own_is_read_from_its_path(tmp_path: Path) -> None:
    profile = load_target(str(edited(tmp_path, ("value = 102.4", "value = 68"))))
    assert profile.figures()["memory.gb_s"].value == 68


@pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        ('id = "jetson-orin-nano"', 'id = "jetson"', "the file is called 'jetson-orin-nano.toml'"),
        ('id = "jetson-orin-nano"', 'id = "../x"', "id is '../x'"),
        ("gb_s =", "gb_ss =", "memory.gb_ss is not a key"),
        ("value = 102.4", "value = 0", "memory.gb_s.value is 0"),
        ("value = 102.4", "value = nan", "memory.gb_s.value is nan"),
        ('value = 102.4, evidence = "S"', 'value = 102.4, evidence = "C"', "memory.gb_s.evidence is 'C'"),
        ('evidence = "S", source = "jetson-super"', 'evidence = "S"', "evidence S needs a source"),
        ('source = "jetson-super"', 'source = "blog"', "source 'blog' is not one of sources"),
        ('evidence = "D", source = "orin-nano-datasheet", note = "1024 CUDA cores x 635 MHz x 2"', 'evidence = "D"', "D needs"),
        ("nvpmodel_id = 1", "nvpmodel_id = 0", "power_modes.nvpmodel_id: a value appears twice"),
        ('mode = "15W"', 'mode = "16W"', "'16W' is not one of power_modes"),
        ('file = "/proc/device-tree/compatible"', 'file = "/proc/device-tree/../../etc/shadow"', "may read"),
        ('file = "/proc/device-tree/compatible"', 'file = "/etc/shadow"', "may read"),
        ('contains = "nvidia,p3767-0005"', 'regex = "("', "not a regular expression"),
        ('id = "tensorrt"', 'id = "trt"', "backends[0].id is 'trt'"),
        ("pixels = false", "", "rewrites: exactly these keys"),
        ("int8 = { value = 0.2", "int9 = { value = 0.2", "predict.utilisation.int9"),
        ("int8 = { value = 0.2", "int8 = { value = 20", "predict.utilisation.int8"),
        ("channel_multiple = 32", "channel_multiple = 0", "channel_multiple is 0"),
    ],
)  # fmt: skip
def test_a_profile_that_breaks_the_schema_is_refused(tmp_path: Path, old: str, new: str, fact: str) -> None:
    with pytest.raises(TargetError) as caught:
        read_target(edited(tmp_path, (old, new)))
    assert fact in caught.value.message
    assert "jetson-orin-nano.toml" in caught.value.message
    assert caught.value.hint
