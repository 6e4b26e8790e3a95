"""From an address to the transport that reaches it."""

from __future__ import annotations

import threading

from edgegen.device.address import Address, Scheme
from edgegen.device.local import LocalTransport
from edgegen.device.transport import Transport


def open_transport(address: Address, *, stop: threading.Event | None = None) -> Transport:
    """Return the transport for `address`. Nothing is connected yet: the first call is the first contact.

    When `stop` is set, every command that runs there is ended.
    """
    match address.scheme:
        case Scheme.LOCAL:
            return LocalTransport(python=address.python, folder=address.folder, stop=stop)
        case Scheme.SSH:
            from edgegen.device.ssh import SshTransport

            return SshTransport(address, stop=stop)
        case Scheme.ADB:
            from edgegen.device.adb import AdbTransport

            return AdbTransport(address, stop=stop)
        case Scheme.FAKE:
            from edgegen.device.fake_script import open_fake

            return open_fake(address.host, stop=stop)
