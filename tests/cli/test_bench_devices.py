"""`edgegen bench --device`: one board like this machine, several in one table, and what is said when one fails."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click.testing
import pytest
import small_bundles
import sshd
from typer.testing import CliRunner

from edgegen.bench import read_record
from edgegen.bench.layers import profile_peaks
from edgegen.cli.main import app
from edgegen.errors import DeviceError, EdgegenError, RecipeError

SHORT = ("--threads", "1", "--min-runs", "64", "--min-seconds", "0.05", "--processes", "1")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("devices")
    return small_bundles.style(folder / "artifact").write(folder / "bundle")


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("inventory")
    server = sshd.start_server(tmp_path_factory.mktemp("sshd"))
    key = " ".join((server.folder / "host.pub").read_text().split()[:2])
    (folder / "old.json").write_text(json.dumps({"answers": [{"stdout": "python 3 6 1 /usr/bin/python3\nheld\n"}]}))
    entries = [("kitchen", f"{server.url()}&python={sys.executable}", f'target = "raspberry-pi-5"\nhost_key = "{key}"\n'),
               ("desk", "local:", ""), ("attic", f"fake:{folder}/old.json", "")]  # fmt: skip
    text = "".join(f'[[devices]]\nname = "{name}"\nurl = "{url}"\n{rest}' for name, url, rest in entries)
    (folder / "devices.toml").write_text('schema = "edgegen.devices/1"\n' + text)
    yield folder / "devices.toml"
    server.kill()


def call(*arguments: object, fails: type[EdgegenError] | None = None) -> tuple[str, click.testing.Result]:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    if fails is None:
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout, done
    assert isinstance(done.exception, fails), (done.output, done.exception)
    return done.exception.message, done


def test_a_board_of_the_inventory_is_measured_like_this_machine(bundle: Path, inventory: Path, tmp_path: Path) -> None:
    words = ("--device", "kitchen", "--devices", inventory, *SHORT, "--layers", "--out", tmp_path / "r.json")
    printed, _ = call("bench", bundle, *words)
    assert "small: openvino/f32" in printed and "sustained p90" in printed and "Longest of" in printed
    layers = json.loads((tmp_path / "r.layers.json").read_text())
    assert len(layers["points"]) == 2 and layers["peaks"] == dataclasses.asdict(profile_peaks("raspberry-pi-5"))
    assert read_record(tmp_path / "r.json").target.id == "raspberry-pi-5"


def test_all_devices_give_one_table_one_page_and_one_failing_stops_no_other(
    bundle: Path, inventory: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said, done = call("bench", bundle, "--device", "all", "--devices", inventory, *SHORT, "--out", out, fails=DeviceError)
    assert said == "1 of 3 devices gave no times: attic" and DeviceError.exit_code == 14
    assert "bundle on 3 devices" in done.stdout and done.stdout.count("kitchen") == done.stdout.count("desk") == 1
    assert "attic: fake:" in done.stderr and "has no Python >= 3.8" in done.stderr
    assert sorted(p.name for p in out.iterdir() if p.suffix != ".npz") == ["desk.json", "devices.html", "kitchen.json"]
    page = (out / "devices.html").read_text()
    assert "kitchen" in page and "desk" in page and "2 of 3 measured" in page


def test_several_devices_as_json_hold_records_and_errors(bundle: Path, inventory: Path) -> None:
    _, done = call(
        "bench", bundle, "--device", "attic", "--device", "desk", "--devices", inventory, *SHORT, "--json", fails=DeviceError
    )
    attic, desk = json.loads(done.stdout)
    assert attic["record"] is None and attic["error"]["exit_code"] == 14
    assert desk["error"] is None and desk["record"]["schema"] == "edgegen.bench/1"


def test_devices_that_cannot_be_meant_are_refused_before_anything_runs(bundle: Path, inventory: Path, tmp_path: Path) -> None:
    assert "has no device 'kitchn'" in call("bench", bundle, "--device", "kitchn", "--devices", inventory, fails=DeviceError)[0]
    assert "the scheme 'shh' is unknown" in call("bench", bundle, "--device", "shh://x", fails=DeviceError)[0]
    two = ("--device", "desk", "--device", "kitchen", "--devices", inventory)
    assert "are for one device" in call("bench", bundle, *two, "--beside", bundle, fails=RecipeError)[0]
    assert "are for one device" in call("bench", bundle, *two, "--layers", fails=RecipeError)[0]
    assert "on one device at a time" in call("bench", *two, "--table", tmp_path / "t", fails=RecipeError)[0]
    wrong = tmp_path / "devices.toml"
    wrong.write_text(inventory.read_text().replace("raspberry-pi-5", "raspbery-pi-5"))
    assert (
        "kitchen: target 'raspbery-pi-5'"
        in call("bench", bundle, "--device", "kitchen", "--devices", wrong, fails=DeviceError)[0]
    )
