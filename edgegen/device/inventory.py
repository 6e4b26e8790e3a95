"""`devices.toml`: the boards of a desk or a laboratory, by name.

schema = "edgegen.devices/1"

[[devices]]
name = "kitchen"
url = "ssh://pi@kitchen.local"
target = "raspberry-pi-5"
host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA..."
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from edgegen.device.address import Address, Scheme, parse_address
from edgegen.errors import DeviceError, nearest
from edgegen.strict_toml import matching, read_toml

SCHEMA = "edgegen.devices/1"
INVENTORY_NAME = "devices.toml"
ALL = "all"
_KEY = r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-[a-z0-9@.-]+) [A-Za-z0-9+/=]{40,2000}( .{0,200})?"


@dataclasses.dataclass(frozen=True)
class Listed:
    """One board of an inventory as it is written."""

    name: str = matching(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
    url: str = matching(r".{1,300}")
    target: str | None = matching(r"[a-z0-9][a-z0-9.-]{0,63}", None)
    host_key: str | None = matching(_KEY, None)


@dataclasses.dataclass(frozen=True)
class Inventory:
    """The file as it is written."""

    devices: tuple[Listed, ...]


@dataclasses.dataclass(frozen=True)
class Member:
    """A board to measure: what it is called, where it is, and which target it is (None: nobody said)."""

    name: str
    address: Address
    target: str | None = None


def read_inventory(path: Path) -> tuple[Member, ...]:
    """Return the boards of the inventory at `path`. Raises DeviceError for everything that is not exactly right."""
    listed = read_toml(path, Inventory, schema=SCHEMA, error=DeviceError).devices
    if not listed:
        raise DeviceError(f"{path}: devices is empty", hint="write a [[devices]] with a name and a url")
    members = tuple(_member(path, entry) for entry in listed)
    names = [member.name for member in members]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise DeviceError(f"{path}: the name '{double}' is given twice", hint="each board needs a name of its own")
    return members


def choose_members(wanted: Sequence[str], inventory: Path) -> tuple[Member, ...]:
    """Return the boards that `wanted` names: URLs, names of the inventory, or "all" of it; each once, in this order."""
    listed = read_inventory(inventory) if any(":" not in word for word in wanted) else ()
    chosen: dict[str, Member] = {}
    for word in wanted:
        for member in _meant(word, listed, inventory):
            chosen.setdefault(member.name, member)
    return tuple(chosen.values())


def _meant(word: str, listed: tuple[Member, ...], inventory: Path) -> tuple[Member, ...]:
    if ":" in word:
        address = parse_address(word)
        return (Member(str(address), address, "host" if address.scheme is Scheme.LOCAL else None),)
    if word == ALL:
        return listed
    found = [member for member in listed if member.name == word]
    if not found:
        raise DeviceError(f"{inventory} has no device '{word}'", hint=nearest(word, [member.name for member in listed]))
    return tuple(found)


def _member(path: Path, entry: Listed) -> Member:
    try:
        address = parse_address(entry.url)
    except DeviceError as problem:
        raise DeviceError(f"{path}: {entry.name}: {problem.message}", hint=problem.hint) from problem
    if entry.name == ALL:
        raise DeviceError(f"{path}: '{ALL}' is no name for a board", hint="it means every board of the file")
    if entry.host_key is not None and address.scheme is not Scheme.SSH:
        raise DeviceError(f"{path}: {entry.name} pins a host_key but is not reached by ssh", hint="leave host_key out")
    key = None if entry.host_key is None else " ".join(entry.host_key.split()[:2])
    local = "host" if address.scheme is Scheme.LOCAL else None
    return Member(entry.name, dataclasses.replace(address, host_key=key), entry.target or local)
