"""What goes wrong between a client and a board, against a real sshd: one sentence with the fix, and nothing left running."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sshd import Cable, Server
from test_guard import alive, gone

from edgegen.device import Ended, Limits, leased
from edgegen.device.ssh import SshTransport
from edgegen.errors import DeviceError, LinkLostError


def refusal(server: Server, **changes: object) -> DeviceError:
    ssh = SshTransport(server.address(**changes))
    try:
        with pytest.raises(DeviceError) as caught:
            ssh.identify()
        return caught.value
    finally:
        ssh.close()


def test_an_unknown_host_key_is_refused_with_the_way_to_check_it(serve: Callable[..., Server]) -> None:
    server = serve()
    (server.folder / "known_hosts").write_text("")
    refused = refusal(server)
    assert "host key of ssh://127.0.0.1" in refused.message and "is unknown" in refused.message
    assert f"-p {server.port}" in refused.hint and "devices.toml" in refused.hint
    assert (server.folder / "known_hosts").read_text() == ""


def test_a_changed_host_key_is_refused_with_the_way_to_forget_the_old_one(serve: Callable[..., Server]) -> None:
    server = serve()
    (server.folder / "known_hosts").write_text("")
    server.know(server.port, key="user")  # another key than the server has
    refused = refusal(server)
    assert "has changed" in refused.message and "ssh-keygen -f" in refused.hint and "in between" in refused.hint


def test_a_pinned_key_needs_no_known_hosts_and_refuses_any_other(server: Server) -> None:
    key = " ".join((server.folder / "host.pub").read_text().split()[:2])
    other = " ".join((server.folder / "user.pub").read_text().split()[:2])
    ssh = SshTransport(server.address(host_key=key))
    assert ssh.identify().system == "Linux"
    ssh.close()
    assert "another host key than the one that devices.toml pins" in refusal(server, host_key=other).message


def test_a_user_that_is_not_let_in_is_named(server: Server) -> None:
    refused = refusal(server, user="nobody-here")
    assert "refuses the user 'nobody-here'" in refused.message and "ssh-copy-id" in refused.hint


def test_a_board_that_is_off_or_unknown_is_named(server: Server) -> None:
    assert "cannot be reached: " in refusal(server, port=1).message
    assert "no machine has the name 'no-such-board.invalid'" in refusal(server, host="no-such-board.invalid").message


def test_an_account_without_a_shell_is_told(serve: Callable[..., Server]) -> None:
    server = serve(force="echo This account is not available.\nexit 1\n")
    assert "starts no command" in refusal(server).message


def started(ssh: SshTransport, seconds: float = 600.0) -> tuple[threading.Thread, str, list[BaseException | object]]:
    """Start a command on the board that sleeps with a child; return its thread, its mark in the environment, and its end."""
    begun, end, mark = threading.Event(), [], []

    def note(line: str) -> None:
        mark.append("MARK=" + line)
        begun.set()

    def work() -> None:
        try:
            command = ["sh", "-c", "export MARK=remote-$$; sleep 600 & echo remote-$$; sleep 600"]
            end.append(ssh.run(command, Limits(seconds), on_line=note))
        except DeviceError as failure:
            end.append(failure)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(30)
    return thread, mark[0], end


def test_a_cable_that_is_cut_ends_the_command_on_both_sides(server: Server, cable: Callable[[int], Cable]) -> None:
    cord = cable(server.port)
    server.know(cord.port)
    ssh = SshTransport(server.address(port=cord.port))
    thread, mark, end = started(ssh)
    cord.cut()
    thread.join(60)
    assert isinstance(end[0], LinkLostError) and "the link to ssh://127.0.0.1" in end[0].message
    assert gone(mark)
    with pytest.raises(LinkLostError):
        ssh.identify()
    ssh.close()


def test_a_server_that_is_killed_ends_the_command_on_both_sides(serve: Callable[..., Server]) -> None:
    server = serve()
    ssh = SshTransport(server.address())
    thread, mark, end = started(ssh)
    server.kill()
    thread.join(60)
    assert isinstance(end[0], LinkLostError) and gone(mark)
    ssh.close()


@pytest.mark.slow
def test_a_link_that_goes_dead_without_a_word_ends_in_bounded_time_and_the_board_is_taken_back(
    server: Server, cable: Callable[[int], Cable]
) -> None:
    cord = cable(server.port)
    server.know(cord.port)
    url = f"ssh://127.0.0.1:{cord.port}?folder={server.board}&ssh_config={server.config}"
    process = subprocess.Popen([sys.executable, "-c", CLIENT, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    mark = "MARK=" + process.stdout.readline().strip()
    while not alive(mark):
        time.sleep(0.01)
    cord.go_dead()
    _, said = process.communicate(timeout=120)  # ssh asks every 5 s and gives up after three answers that did not come
    assert "LinkLostError: the link to ssh://127.0.0.1" in said
    assert alive(mark) and os.path.islink(server.board / "lock")  # nobody told the board
    ssh = SshTransport(server.address())
    with leased(ssh):
        assert gone(mark)
    assert not os.path.lexists(server.board / "lock")
    ssh.close()


def test_a_command_on_a_board_that_takes_too_long_is_ended(ssh: SshTransport) -> None:
    thread, mark, end = started(ssh, seconds=1.0)
    thread.join(60)
    assert getattr(end[0], "ended", None) is Ended.TIMED_OUT and gone(mark)


def test_a_flood_from_the_board_is_cut_and_ended(ssh: SshTransport) -> None:
    done = ssh.run(["sh", "-c", "echo $$; cat /dev/zero"], Limits(600.0, output_bytes=200_000))
    assert done.ended is Ended.FLOODED and len(done.stdout) <= 200_000


CLIENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell starts with it ignored
from edgegen.device import Limits, leased, open_transport, parse_address
transport = open_transport(parse_address(sys.argv[1]))
with leased(transport):
    command = ["sh", "-c", "export MARK=client-$$; sleep 600 & echo client-$$; sleep 600"]
    transport.run(command, Limits(600.0), on_line=lambda line: print(line, flush=True))
"""


def client(server: Server) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT, server.url()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    mark = "MARK=" + process.stdout.readline().strip()
    while not alive(mark):
        time.sleep(0.01)
    return process, mark


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_client_that_ends_takes_its_command_and_its_lock_with_it(how: signal.Signals, server: Server) -> None:
    process, mark = client(server)
    assert os.path.islink(server.board / "lock")
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode != 0 and gone(mark)
    ssh = SshTransport(server.address())
    until = time.monotonic() + 30
    while os.path.lexists(server.board / "lock") and time.monotonic() < until:
        time.sleep(0.05)
    with leased(ssh):
        assert os.path.islink(server.board / "lock")
    assert not os.path.lexists(server.board / "lock") and list((server.board / "run").iterdir()) == []
    ssh.close()


def test_a_second_measurement_is_refused_with_the_name_of_the_first(server: Server, me: str) -> None:
    one, other = SshTransport(server.address()), SshTransport(server.address())
    with leased(one), pytest.raises(DeviceError, match=f"is busy: {me}@.* measures there"), leased(other):
        pass
    with leased(other):
        pass
    one.close()
    other.close()


def test_what_an_earlier_client_left_is_ended_and_its_lock_taken_over(server: Server, ssh: SshTransport) -> None:
    """A board that lost power keeps the lock; a guard that was killed keeps its command running."""
    left = subprocess.Popen(["sleep", "600"], start_new_session=True, env={"MARK": "left-behind"})
    began = Path(f"/proc/{left.pid}/stat").read_text().rpartition(") ")[2].split()[19]
    innocent = subprocess.Popen(["sleep", "600"], start_new_session=True)
    (server.board / "run").mkdir(exist_ok=True)
    (server.board / "run" / "old").write_text(f"{left.pid} {began}\n")
    (server.board / "run" / "older").write_text(f"{innocent.pid} 1\n")  # its number went to another process since
    (server.board / "lock").symlink_to("999999 12345 someone@gone")
    with leased(ssh):
        assert left.wait(30) != 0 and innocent.poll() is None
        assert not (server.board / "run" / "old").exists() and not (server.board / "run" / "older").exists()
    innocent.kill()
    innocent.wait()


def test_a_full_disk_of_the_board_is_one_sentence(serve: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "weights").write_bytes(os.urandom(1 << 20))
    folder = tmp_path / "small-disk"
    folder.mkdir()
    server = serve(before=f"mount -t tmpfs -o size=256k none {folder}")
    ssh = SshTransport(server.address(folder=str(folder)))
    with pytest.raises(DeviceError, match="the disk of the device is full") as caught:
        ssh.push(tmp_path / "big", "bundles/big")
    assert "?folder=" in caught.value.hint
    assert ssh.run(["sh", "-c", f"ls {folder}/bundles"], Limits(20.0)).stdout == ""
    ssh.close()
