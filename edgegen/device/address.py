"""Where a device is: `local:`, `ssh://user@host:port`, `adb://serial`, `fake:script.json`."""

from __future__ import annotations

import dataclasses
import enum
import re
import urllib.parse
from typing import TypedDict

from edgegen.errors import DeviceError, nearest

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9]{1,16})?\]")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@\\-]{0,63}")  # nothing that ssh or a shell could take for an option
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_PATH = re.compile(r"/[^\x00-\x1f\x7f]{0,500}")
_KEYS = ("python", "folder", "ssh_config")
_EXAMPLES = "local:, ssh://user@host, ssh://user@host:2222 or adb://SERIAL"


class _Common(TypedDict, total=False):
    """What the query of any address may hold."""

    python: str
    folder: str
    ssh_config: str


class Scheme(enum.Enum):
    """The ways to a device."""

    LOCAL = "local"
    SSH = "ssh"
    ADB = "adb"
    FAKE = "fake"


@dataclasses.dataclass(frozen=True)
class Address:
    """A parsed URL. `user` and `port` None leave the choice to ssh's own configuration.

    `host` is the name for ssh, the serial for adb, the script's path for fake. `python` and `folder` come from the query:
    ssh://pi@kitchen?python=/opt/venv/bin/python&folder=/data/edgegen; `ssh_config` is the file for `ssh -F`. `host_key` pins
    what an inventory says: "ssh-ed25519 AAAA...".
    """

    scheme: Scheme
    host: str = ""
    user: str | None = None
    port: int | None = None
    python: str | None = None
    folder: str | None = None
    ssh_config: str | None = None
    host_key: str | None = None

    def __str__(self) -> str:
        """The URL without its query."""
        if self.scheme is Scheme.LOCAL:
            return "local:"
        if self.scheme is Scheme.FAKE:
            return f"fake:{self.host}"
        user = "" if self.user is None else f"{self.user}@"
        return f"{self.scheme.value}://{user}{self.host}" + ("" if self.port is None else f":{self.port}")


def parse_address(url: str) -> Address:
    """Return what `url` says; DeviceError with examples if it is no address of a device."""
    scheme, colon, rest = url.partition(":")
    known = [member.value for member in Scheme]
    if not colon:
        raise _refuse(url, "is not the address of a device")
    if scheme not in known:
        raise DeviceError(f"'{_shown(url)}': the scheme '{_shown(scheme)}' is unknown", hint=nearest(scheme, known))
    rest, _, query = rest.partition("?")
    common = _query(url, query)
    match Scheme(scheme):
        case Scheme.LOCAL:
            if rest not in ("", "//"):
                raise _refuse(url, "names something after local:")
            return Address(Scheme.LOCAL, **common)
        case Scheme.FAKE:
            return Address(Scheme.FAKE, rest, **common)
        case Scheme.ADB:
            serial = rest.removeprefix("//").rstrip("/")
            if not rest.startswith("//") or not _SERIAL.fullmatch(serial):
                raise _refuse(url, "has no serial", hint="as in adb://R5CT10ABCDE; `adb devices` lists them")
            return Address(Scheme.ADB, serial, **common)
        case Scheme.SSH:
            return _ssh(url, rest, common)


def _ssh(url: str, rest: str, common: _Common) -> Address:
    if not rest.startswith("//"):
        raise _refuse(url, "lacks the // after ssh:")
    place, slash, path = rest[2:].partition("/")
    if path:
        raise _refuse(
            url, f"has a path (/{_shown(path)})", hint="name edgegen's folder on the device so: ssh://host?folder=/data/edgegen"
        )
    user, at, host = place.rpartition("@")
    host, port = _split_port(url, host)
    if at and ":" in user:
        raise _refuse(url.replace(user, user.partition(":")[0] + ":…"), "holds a password", hint="use a key or ssh-agent")
    if at and not _USER.fullmatch(user):
        raise _refuse(url, "has no valid user name")
    if not _HOST.fullmatch(host):
        raise _refuse(url, "has no valid host name")
    return Address(Scheme.SSH, host, user if at else None, port, **common)


def _split_port(url: str, host: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(.*[^:]):(\d{1,5})|(\[.*\]):(\d{1,5})", host)
    if found is None:
        if host.count(":") == 1:
            raise _refuse(url, "has no valid port", hint="a port is a number from 1 to 65535")
        return host, None
    name, digits = found.group(1) or found.group(3), found.group(2) or found.group(4)
    if not 1 <= int(digits) <= 65535:
        raise _refuse(url, f"has the port {digits}", hint="a port is a number from 1 to 65535")
    return name, int(digits)


def _query(url: str, query: str) -> _Common:
    try:
        pairs = urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=8)
    except ValueError as problem:
        raise _refuse(url, "has a query that cannot be read") from problem
    found: _Common = {}
    for key, value in pairs:
        if key not in _KEYS:
            raise DeviceError(f"'{_shown(url)}': {_shown(key)} is not a key", hint=nearest(key, _KEYS))
        if key in found:
            raise _refuse(url, f"names {key} twice")
        if not _PATH.fullmatch(value) and not (key == "python" and re.fullmatch(r"python[0-9.]{0,8}", value)):
            raise _refuse(url, f"{key} is '{_shown(value)}'", hint=f"write an absolute path, as in {key}=/opt/venv/bin/python")
        found[key] = value
    return found


def _refuse(url: str, fact: str, *, hint: str = f"write {_EXAMPLES}") -> DeviceError:
    return DeviceError(f"'{_shown(url)}' {fact}", hint=hint)


def _shown(text: str) -> str:
    from edgegen.device.text import escape

    return escape(text, 200)
