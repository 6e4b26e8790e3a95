"""From an address to the transport that reaches it."""

from __future__ import annotations

from edgegen.device.address import Address, Scheme
from edgegen.device.local import LocalTransport
from edgegen.device.transport import Transport
from edgegen.errors import DeviceError


def open_transport(address: Address) -> Transport:
    """Return the transport for `address`. Nothing is connected yet: the first call is the first contact."""
    match address.scheme:
        case Scheme.LOCAL:
            return LocalTransport(python=address.python, folder=address.folder)
        case Scheme.SSH:
            from edgegen.device.ssh import SshTransport

            return SshTransport(address)
        case Scheme.ADB | Scheme.FAKE:
            raise DeviceError(f"{address}: this edgegen cannot open {address.scheme.value} yet")
