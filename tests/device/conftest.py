"""Servers and cables for the tests of transports."""

import getpass
from collections.abc import Callable, Iterator

import pytest
from sshd import Cable, Server, start_server

from edgegen.device.ssh import SshTransport


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start servers that end with the test."""
    started: list[Server] = []

    def start(**options: object) -> Server:
        started.append(start_server(tmp_path_factory.mktemp("sshd"), **options))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of a module that do it no harm."""
    made = start_server(tmp_path_factory.mktemp("sshd"))
    yield made
    made.kill()


@pytest.fixture
def ssh(server: Server) -> Iterator[SshTransport]:
    transport = SshTransport(server.address())
    yield transport
    transport.close()


@pytest.fixture
def cable() -> Iterator[Callable[[int], Cable]]:
    laid: list[Cable] = []

    def lay(port: int) -> Cable:
        laid.append(Cable(port))
        return laid[-1]

    yield lay
    for one in laid:
        one.cut()


@pytest.fixture
def me() -> str:
    return getpass.getuser()
