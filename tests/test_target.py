"""Target profiles: every built-in one obeys the schema, predictions follow from evidence, and bad profiles are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgegen.errors import TargetError
from edgegen.resources import resource_folder, resource_names
from edgegen.spec import Backend, Precision
from edgegen.target import Evidence, list_targets, load_target, read_target, resolve_target
from edgegen.target_schema import Granularity


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
    assert not (profile.local and profile.predict)
    json.dumps(profile.to_json())
    for key, figure in profile.figures().items():
        assert figure.evidence is not Evidence.SEEN or figure.source, key


PREDICTED = {
    "drive-agx-orin", "intel-n100", "jetson-agx-orin", "jetson-orin-nano", "jetson-orin-nano-15w", "jetson-orin-nx",
    "raspberry-pi-4", "raspberry-pi-5", "snapdragon-xr2-gen2",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in resource_names("targets") if name != "host"])
def test_a_device_that_is_not_here_is_predicted_at_all_its_precisions_or_says_that_it_is_not(name: str) -> None:
    profile = load_target(name)
    known = [profile.macs_per_s(precision) is not None for precision in profile.precisions]
    assert all(known) or name not in PREDICTED
    if name in PREDICTED:
        assert profile.memory_bytes_per_s is not None
    else:
        assert all(known) or any("not predicted" in note or "no path to this GPU" in note for note in profile.notes)


def test_the_targets_of_the_documentation_exist_and_host_comes_first() -> None:
    assert [profile.id for profile in list_targets()] == [
        "host", "a311d", "atom-automotive", "coral", "core-ultra-cpu", "core-ultra-gpu", "core-ultra-npu", "drive-agx-orin",
        "imx8m-plus", "imx93", "intel-n100", "jetson-agx-orin", "jetson-agx-thor", "jetson-nano", "jetson-orin-nano",
        "jetson-orin-nano-15w", "jetson-orin-nx", "jetson-xavier-nx", "r-car-v4h", "raspberry-pi-4", "raspberry-pi-5", "rk3588",
        "sa8295p", "snapdragon-8-gen3", "snapdragon-xr2-gen2", "tda4vm",
    ]  # fmt: skip


def test_an_automotive_profile_says_that_pictures_are_not_for_safety_functions_and_judges_the_tail() -> None:
    for profile in list_targets():
        if profile.scene == "automotive":
            assert "must not feed an ASIL-rated function" in " ".join(profile.notes)
            assert profile.budgets[0].tail == 0.999


def test_an_engine_without_a_back_end_is_listed_as_an_accelerator_and_not_as_a_back_end() -> None:
    engines = {(profile.id, a.unit): a for profile in list_targets() for a in profile.accelerators}
    assert engines["imx93", "npu"].op_table == "ethos-u65" and engines["coral", "tpu"].op_table == "edge-tpu"
    assert "TIDL" in engines["tda4vm", "mma"].toolchain and "RKNN" in engines["rk3588", "npu"].toolchain
    assert not any(row.supported for name in ("jetson-nano", "jetson-xavier-nx") for row in load_target(name).software)


def test_every_device_says_how_its_int8_is_scaled() -> None:
    rules = {(profile.id, rule.unit): rule for profile in list_targets() for rule in profile.precision_rules}
    assert rules["jetson-orin-nano", "gpu"].transposed is Granularity.PER_TENSOR
    assert rules["raspberry-pi-4", "cpu"].transposed is Granularity.PER_CHANNEL
    assert rules["imx8m-plus", "npu"].weights is Granularity.PER_TENSOR
    assert not [p.id for p in list_targets() if Precision.INT8 in p.precisions and not p.precision_rules]


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
        ("automotive", "drive-agx-orin", 0.0333 * 0.6),
        ("automotive-orin", "drive-agx-orin", None),
        ("jetson-orin-nano-super", "jetson-orin-nano", None),
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
    assert {mode.name: mode.nvpmodel_id for mode in load_target("jetson-orin-nx").power_modes}["MAXN_SUPER"] == 0


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
        ('"tensorrt-10.16"', '"tensorrt-10.6"', "'tensorrt-10.6' is not an op table: did you mean"),
        ('activations = "symmetric"', 'activations = "symetric"', "precision_rules[0].activations is 'symetric'"),
        ('"symmetric"\nevidence = "S"\nsource = "tensorrt-docs"', '"symmetric"\nevidence = "S"', "rules[0]: evidence S"),
    ],
)  # fmt: skip
def test_a_profile_that_breaks_the_schema_is_refused(tmp_path: Path, old: str, new: str, fact: str) -> None:
    with pytest.raises(TargetError) as caught:
        read_target(edited(tmp_path, (old, new)))
    assert fact in caught.value.message
    assert "jetson-orin-nano.toml" in caught.value.message
    assert caught.value.hint
