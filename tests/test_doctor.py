"""`edgegen doctor` on this machine and over ssh: what works is ok, what does not has its fix."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sshd
from typer.testing import CliRunner

from edgegen.cli.main import app
from edgegen.device import Answer, Completed, FakeTransport
from edgegen.device.ssh import SshTransport
from edgegen.doctor import examine
from edgegen.errors import DeviceError
from edgegen.runtime.finding import Health


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Server]:
    made = sshd.start_server(tmp_path_factory.mktemp("sshd"))
    yield made
    made.kill()


def test_a_board_behind_ssh_is_examined_from_the_link_to_its_back_ends(server: sshd.Server) -> None:
    board = SshTransport(server.address(python=sys.executable))
    said: list[str] = []
    found = examine(board, note=said.append)
    board.close()
    health = {finding.name: finding.health for finding in found.findings}
    assert found.usable and found.machine is not None and "glibc" in found.machine
    assert [health[name] for name in ("link", "copying", "python", "openvino", "litert")] == [Health.OK.value] * 5
    assert len(said) == 4 and not (server.board / "doctor.bin").exists()


def test_a_board_that_refuses_is_a_finding_with_the_fix(server: sshd.Server) -> None:
    board = SshTransport(server.address(user="nobody-here"))
    found = examine(board)
    board.close()
    assert not found.usable and [finding.name for finding in found.findings] == ["link"]
    assert "refuses the user" in found.findings[0].reason and "ssh-copy-id" in found.findings[0].fix


def fake(*answers: Answer) -> FakeTransport:
    python = Answer(Completed(0, "python 3 11 1 /usr/bin/python3\n"), when="import numpy")
    return FakeTransport(Answer(Completed(0, "held\n"), when="readlink"), python, *answers, Answer(Completed(0)), name="ssh://pi")


@pytest.mark.parametrize("said", ["", "garbage\n", "{}\n", '{"findings": [{"name": "x"}], "machine": {}}\n', '{"findings": 1}\n'])
def test_an_answer_without_sense_is_a_finding(said: str) -> None:
    found = examine(fake(Answer(Completed(0, said), when="edgegen.runtime.doctor")))
    assert not found.usable and found.findings[-1].name == "runtime" and found.findings[-1].health == Health.FAILS.value


def test_what_a_board_says_of_itself_cannot_steer_the_terminal() -> None:
    evil = {"name": "openvino", "health": "ok", "reason": "\x1b[2J", "fix": ""}
    machine = {"os": "\x1b]0;x\x07", "cpu": None, "python": "3.11"}
    answer = json.dumps({"findings": [evil], "machine": machine, "libc": "2.36"})
    found = examine(fake(Answer(Completed(0, answer + "\n"), when="edgegen.runtime.doctor")))
    assert found.usable and found.findings[-1].reason == "\\x1b[2J" and found.machine is not None and found.machine.isprintable()


def test_the_command_prints_what_it_found_and_ends_with_the_code_of_devices(tmp_path: Path) -> None:
    good = CliRunner().invoke(app, ["doctor"])
    assert good.exit_code == 0, good.output
    assert "ok      openvino" in good.stdout and "programs that lead to devices" in good.stdout
    script = tmp_path / "old.json"
    script.write_text(json.dumps({"answers": [{"stdout": "python 3 6 1 /usr/bin/python3\nheld\n"}]}))
    bad = CliRunner().invoke(app, ["doctor", "--device", f"fake:{script}", "--json"])
    assert isinstance(bad.exception, DeviceError) and "nothing can be measured on fake:" in bad.exception.message
    assert json.loads(bad.stdout)[0]["usable"] is False
