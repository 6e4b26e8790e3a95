"""devices.toml, and what --device may name."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.device import Scheme, choose_members, open_transport, parse_address, read_inventory
from edgegen.errors import DeviceError

KEY = "ssh-ed25519 " + "A" * 68
TEXT = f"""schema = "edgegen.devices/1"

[[devices]]
name = "kitchen"
url = "ssh://pi@kitchen.local:2222?python=/opt/venv/bin/python"
target = "raspberry-pi-5"
host_key = "{KEY} pi@kitchen"

[[devices]]
name = "desk"
url = "local:"
"""


def write(folder: Path, text: str) -> Path:
    (folder / "devices.toml").write_text(text)
    return folder / "devices.toml"


def test_an_inventory_names_boards(tmp_path: Path) -> None:
    kitchen, desk = read_inventory(write(tmp_path, TEXT))
    assert (kitchen.name, kitchen.target, kitchen.address.port) == ("kitchen", "raspberry-pi-5", 2222)
    assert kitchen.address.host_key == KEY and kitchen.address.python == "/opt/venv/bin/python"
    assert (desk.name, desk.target, desk.address.scheme) == ("desk", "host", Scheme.LOCAL)


@pytest.mark.parametrize(
    ("old", "new", "sentence", "hint"),
    [
        ("target =", "targt =", "targt is not a key", "did you mean 'target'"),
        ('"kitchen"', '"desk"', "the name 'desk' is given twice", "a name of its own"),
        ('"kitchen"', '"all"', "'all' is no name for a board", "every board"),
        ("ssh://pi@", "shh://pi@", "kitchen: 'shh://", "did you mean 'ssh'"),
        ("ssh-ed25519", "ssh-ed25518", "host_key is 'ssh-ed25518", "it must match"),
        ('url = "local:"', f'url = "local:"\nhost_key = "{KEY}"', "desk pins a host_key", "leave host_key out"),
        ("devices/1", "devices/2", "has schema", "edgegen.devices/1"),
    ],
)
def test_what_is_wrong_in_it_is_named_with_the_fix(tmp_path: Path, old: str, new: str, sentence: str, hint: str) -> None:
    with pytest.raises(DeviceError) as caught:
        read_inventory(write(tmp_path, TEXT.replace(old, new)))
    assert sentence in caught.value.message and hint in caught.value.hint and "devices.toml" in caught.value.message


def test_devices_are_chosen_by_name_by_address_or_all_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT)
    assert [m.name for m in choose_members(["all"], path)] == ["kitchen", "desk"]
    assert [m.name for m in choose_members(["desk", "ssh://other", "desk"], path)] == ["desk", "ssh://other"]
    assert [m.name for m in choose_members(["local:"], tmp_path / "absent.toml")] == ["local:"]
    with pytest.raises(DeviceError, match="has no device 'kitchn'") as caught:
        choose_members(["kitchn"], path)
    assert "did you mean 'kitchen'" in caught.value.hint
    with pytest.raises(DeviceError, match=r"absent\.toml is missing"):
        choose_members(["all"], tmp_path / "absent.toml")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(TEXT) - 1), st.text(max_size=3))
def test_a_file_that_was_altered_anywhere_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, at: int, new: str) -> None:
    folder = tmp_path_factory.mktemp("inventory")
    try:
        read_inventory(write(folder, TEXT[:at] + new + TEXT[at + 1 :]))
    except DeviceError as refused:
        assert "devices.toml" in refused.message


def test_every_scheme_opens_a_transport_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text('{"answers": [{"when": "uname", "stdout": "x", "exit_code": 2}]}')
    for url in ("local:", "ssh://board", "adb://serial", f"fake:{tmp_path}/script.json"):
        transport = open_transport(parse_address(url))
        assert transport.name == url
        transport.close()


@pytest.mark.parametrize(
    ("script", "sentence"),
    [("[]", "is not a JSON object"), ("{}", "answers is no list"), ('{"answers": [{"wen": 1}]}', "wen is not a key"),
     ('{"answers": [{"when": 1}]}', "when has the wrong type"), ('{"answers": [1]}', "is no object")],
)  # fmt: skip
def test_a_script_of_a_fake_that_makes_no_sense_is_refused(tmp_path: Path, script: str, sentence: str) -> None:
    (tmp_path / "s.json").write_text(script)
    with pytest.raises(DeviceError, match=sentence):
        open_transport(parse_address(f"fake:{tmp_path}/s.json"))
