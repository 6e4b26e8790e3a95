"""Ways to devices: one protocol, and behind it this machine, ssh, adb, or a script for tests."""

from __future__ import annotations

from edgegen.device.address import Address, Scheme, parse_address
from edgegen.device.board import Board, make_ready, place_bundle
from edgegen.device.detect import UNKNOWN, Recognised, recognise
from edgegen.device.fake import Answer, FakeTransport
from edgegen.device.inventory import Member, choose_members, read_inventory
from edgegen.device.lease import leased
from edgegen.device.local import LocalTransport
from edgegen.device.opening import open_transport
from edgegen.device.transport import Completed, Ended, Identity, Limits, Transport

__all__ = [
    "Address", "Answer", "Board", "Completed", "Ended", "FakeTransport", "Identity", "Limits", "LocalTransport", "Member",
    "Recognised", "Scheme", "Transport", "UNKNOWN", "choose_members", "leased", "make_ready", "open_transport", "parse_address",
    "place_bundle", "read_inventory", "recognise",
]  # fmt: skip
