"""Which target a board is, by the rules of the profiles: told by its own files, or checked against them."""

import pytest

from edgegen.device import Completed, FakeTransport, LocalTransport
from edgegen.device.detect import Recognised, recognise
from edgegen.target import list_targets

COMPATIBLE, MODEL, CPU = "/proc/device-tree/compatible", "/proc/device-tree/model", "/proc/cpuinfo"
ORIN_NANO = {COMPATIBLE: "nvidia,p3768-0000+p3767-0005\nnvidia,p3767-0005\nnvidia,tegra234\n"}
PI_5 = {MODEL: "Raspberry Pi 5 Model B Rev 1.0\n", COMPATIBLE: "raspberrypi,5-model-b\nbrcm,bcm2712\n"}


def board(files: dict[str, str]) -> FakeTransport:
    said = "".join(f"\nedgegen-file {name}\n{text}" for name, text in files.items())
    return FakeTransport(Completed(0, said))


def test_a_board_tells_which_target_it_is() -> None:
    assert recognise(board(PI_5), None) == Recognised("raspberry-pi-5", "exact")


def test_of_two_profiles_of_one_board_it_is_the_one_that_the_bundle_was_built_for() -> None:
    assert recognise(board(ORIN_NANO), None, "jetson-orin-nano-15w") == Recognised("jetson-orin-nano-15w", "exact")
    found = recognise(board(ORIN_NANO), None, "raspberry-pi-5")
    assert (found.id, found.match) == ("unknown", None)
    assert found.note == "it may be jetson-orin-nano or jetson-orin-nano-15w: name its target in devices.toml"


@pytest.mark.parametrize("files", [{}, {CPU: "model name : AMD EPYC\n"}, {MODEL: "A board of mine\n"}], ids=str)
def test_what_no_rule_fits_is_unknown(files: dict[str, str]) -> None:
    found = recognise(board(files), None)
    assert (found.id, found.match) == ("unknown", None) and "no target that edgegen recognises" in found.note


def test_what_somebody_says_is_checked_and_believed() -> None:
    assert recognise(board(PI_5), "raspberry-pi-5") == Recognised("raspberry-pi-5", "exact")
    doubted = recognise(board(PI_5), "rk3588")
    assert (doubted.id, doubted.match) == ("rk3588", "none")
    assert doubted.note == "it is said to be rk3588, which /proc/device-tree/compatible does not confirm"
    without_rules = next(profile.id for profile in list_targets() if not profile.detect and not profile.local)
    assert recognise(board({}), without_rules) == Recognised(without_rules)
    assert recognise(board({}), "a-prototype") == Recognised("a-prototype")


def test_this_machine_is_the_host_without_a_question() -> None:
    assert recognise(LocalTransport(), None) == Recognised("host")
