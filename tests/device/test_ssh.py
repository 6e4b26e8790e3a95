"""ssh to a real sshd on loopback: what works, by every way of copying."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from sshd import Server

from edgegen.device import Completed, Limits
from edgegen.device.ssh import SshTransport
from edgegen.errors import DeviceError, StorageError

BARE = 'PATH={bin} exec /bin/busybox sh -c "$SSH_ORIGINAL_COMMAND"\n'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle with a space"
    (folder / "artifacts" / "f32").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "artifacts" / "f32" / "weights.bin").write_bytes(bytes(range(256)) * 2000)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_output_and_exit_code_cross_the_link_as_they_were(ssh: SshTransport) -> None:
    lines: list[str] = []
    done = ssh.run(["sh", "-c", 'echo "$1"; echo e >&2; exit 255', "sh", "a 'b' $HOME \\ \""], Limits(20.0), on_line=lines.append)
    assert done == Completed(255, "a 'b' $HOME \\ \"\n", "e\n")
    assert sorted(lines) == ["a 'b' $HOME \\ \"", "e"]


def test_the_board_says_what_it_is_and_gives_a_folder(ssh: SshTransport, server: Server) -> None:
    assert ssh.identify().system == "Linux"
    assert ssh.folder() == str(server.board)


def test_a_folder_is_copied_by_rsync_and_replaced_whole(ssh: SshTransport, server: Server, tree: Path) -> None:
    ssh.push(tree, "bundles/one")
    (tree / "manifest.json").unlink()
    ssh.push(tree, "bundles/one")
    assert contents(server.board / "bundles" / "one") == contents(tree)
    assert not (server.board / "bundles" / "one.part").exists()


def test_a_file_goes_there_and_comes_back(ssh: SshTransport, tree: Path, tmp_path: Path) -> None:
    ssh.push(tree / "artifacts" / "f32" / "weights.bin", "w.bin")
    ssh.pull("w.bin", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tree / "artifacts" / "f32" / "weights.bin").read_bytes()
    with pytest.raises(DeviceError, match=r"nothing\.bin cannot be copied"):
        ssh.pull("nothing.bin", tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("size", [10, 1 << 20], ids=["few bytes", "many bytes"])
def test_a_full_disk_of_this_machine_is_not_blamed_on_the_board(
    size: int, ssh: SshTransport, server: Server, tmp_path: Path
) -> None:
    (server.board / "samples").write_bytes(bytes(size))
    (tmp_path / ".back.part").symlink_to("/dev/full")
    with pytest.raises(StorageError) as caught:
        ssh.pull("samples", tmp_path / "back")
    assert caught.value.message == f"{tmp_path / 'back'} cannot be written: the disk of this machine is full"
    assert list(tmp_path.iterdir()) == []


def small_board(folder: Path, *applets: str) -> str:
    """A script for sshd that leads into a board whose only programs are these applets of busybox."""
    where = folder / "bin"
    where.mkdir()
    for applet in applets:
        (where / applet).symlink_to("/bin/busybox")
    return BARE.format(bin=where)


APPLETS = ("sh", "cat", "mkdir", "rm", "mv", "sed", "cut", "dirname", "uname", "tr", "timeout", "setsid", "sleep", "echo", "ls")


@pytest.mark.parametrize(
    ("sftp", "applets"), [(True, APPLETS), (False, (*APPLETS, "tar")), (False, APPLETS)], ids=["by scp", "by tar", "file by file"]
)
def test_boards_without_rsync_get_the_same_files(
    sftp: bool, applets: tuple[str, ...], serve: Callable[..., Server], tree: Path, tmp_path: Path
) -> None:
    force = small_board(tmp_path, *applets)
    if sftp:
        force = "case $SSH_ORIGINAL_COMMAND in *sftp-server*) exec $SSH_ORIGINAL_COMMAND ;; esac\n" + force
    server = serve(force=force, sftp=sftp)
    ssh = SshTransport(server.address())
    try:
        ssh.push(tree, "bundles/one")
        ssh.push(tree / "manifest.json", "single")
        assert contents(server.board / "bundles" / "one") == contents(tree)
        assert (server.board / "single").read_text() == "{}"
        assert ssh.run(["sh", "-c", "exit 7"], Limits(20.0)).exit_code == 7
    finally:
        ssh.close()


def test_a_board_that_greets_every_command_is_understood(serve: Callable[..., Server], tree: Path) -> None:
    noise = "printf '\\033[31mWELCOME\\377\\n{\"a\": 1}'; printf 'stderr too' >&2\n"
    server = serve(force=noise + 'exec sh -c "$SSH_ORIGINAL_COMMAND"\n')
    ssh = SshTransport(server.address())
    try:
        ssh.push(tree, "bundles/one")  # neither rsync nor scp get through such a greeting
        assert contents(server.board / "bundles" / "one") == contents(tree)
        assert ssh.run(["echo", "hello"], Limits(20.0)) == Completed(0, "hello\n", "")
    finally:
        ssh.close()


def test_a_users_own_master_connection_is_left_alone(server: Server, tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    with tempfile.TemporaryDirectory() as short:  # names of sockets have 104 bytes
        config.write_text(f"ControlPath {short}/own\n" + server.config.read_text())
        ssh = SshTransport(server.address(ssh_config=str(config)))
        try:
            assert not any("ControlPath" in word for word in ssh.command())
            assert ssh.run(["echo", "x"], Limits(20.0)).stdout == "x\n"
        finally:
            ssh.close()


def test_closing_leaves_nothing_behind(server: Server) -> None:
    ssh = SshTransport(server.address())
    ssh.run(["true"], Limits(20.0))
    scratch = Path(next(w for w in ssh.command() if w.startswith("ControlPath=")).removeprefix("ControlPath=")).parent
    assert scratch.is_dir()
    ssh.close()
    assert not scratch.exists()


def test_programs_that_copy_are_here() -> None:
    assert all(shutil.which(program) for program in ("rsync", "scp", "busybox"))
