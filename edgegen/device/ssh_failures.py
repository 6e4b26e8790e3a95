"""Why ssh ended before the command did, in one sentence with the fix."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgegen.device.guarded import Broken
from edgegen.device.text import escape, last_line
from edgegen.errors import DeviceError, LinkLostError

_SSH_FAILED = 255
_AFTER_LOSS = "see whether the board still runs, then do it again: what it left there is cleaned up first"
_UNREACHABLE = (
    "Connection refused", "Connection timed out", "Operation timed out", "No route to host", "Network is unreachable",
    "Connection reset", "Connection closed", "kex_exchange_identification", "banner exchange", "Broken pipe", "mux_client",
    "Control socket",
)  # fmt: skip


def explain(name: str, broken: Broken, settings: Mapping[str, str], *, connected: bool, pinned: bool) -> DeviceError:
    """Return the error for a shell that ended early on the device `name`.

    `settings` are those of ssh for the address, `connected` whether it worked before, `pinned` whether devices.toml has its key.
    """
    said = broken.stderr
    if broken.began:
        return LinkLostError(f"the link to {name} was lost", hint=_AFTER_LOSS)
    if broken.exit_code != _SSH_FAILED:
        why = last_line(said) or f"exit code {broken.exit_code}"
        return DeviceError(f"{name} lets you in but starts no command: {why}", hint="the account needs a POSIX login shell")
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said or (pinned and "Host key verification failed" in said):
        return _changed(name, said, pinned)
    if "Host key verification failed" in said or "host key is known for" in said:
        return _unknown(name, settings)
    if "Permission denied" in said or "Too many authentication failures" in said:
        user, by_hand = escape(settings.get("user", "?"), 80), by_hand_command(settings)
        hint = f"the account needs your public key: ssh-copy-id {by_hand}; or is the user another one (ssh://USER@...)?"
        return DeviceError(f"{name} refuses the user '{user}': {_reason(said, 'ermission denied')}", hint=hint)
    if "Could not resolve hostname" in said:
        host = escape(settings.get("hostname", "?"), 80)
        return DeviceError(f"{name}: no machine has the name '{host}'", hint="check the spelling, or give its IP address")
    if connected:  # whatever ssh says now, or does not say, it worked before
        why = last_line(said)
        return LinkLostError(f"the link to {name} was lost" + (f": {why}" if why else ""), hint=_AFTER_LOSS)
    if any(words in said for words in _UNREACHABLE):
        return DeviceError(f"{name} cannot be reached: {last_line(said)}", hint="is it switched on, and does sshd run there?")
    hint = f"ssh -v {by_hand_command(settings)} shows more"
    return DeviceError(f"{name}: ssh failed: {last_line(said) or 'no reason given'}", hint=hint)


def by_hand_command(settings: Mapping[str, str]) -> str:
    """Return the arguments with which a user would reach the same board by hand: "-p 2222 pi@kitchen"."""
    port, user, host = (settings.get(key, "") for key in ("port", "user", "hostname"))
    port = "" if port in ("", "22") else f"-p {escape(port, 8)} "
    return f"{port}{escape(user, 80)}@{escape(host, 200)}"


def _changed(name: str, said: str, pinned: bool) -> DeviceError:
    if pinned:
        hint = "if the board was set up anew, write its new key as host_key in devices.toml; otherwise somebody may be in between"
        return DeviceError(f"{name} has another host key than the one that devices.toml pins", hint=hint)
    removal = re.search(r"ssh-keygen -f .*", said)
    remove = escape(removal.group().strip(), 300) if removal else "ssh-keygen -R with its name"
    anew = f"if the board was set up anew, forget the old key ({remove}) and connect once by hand"
    hint = f"{anew}; otherwise somebody may be in between"
    return DeviceError(f"the host key of {name} has changed", hint=hint)


def _unknown(name: str, settings: Mapping[str, str]) -> DeviceError:
    hint = f"connect once by hand and compare the fingerprint (ssh {by_hand_command(settings)}), or pin host_key in devices.toml"
    return DeviceError(f"the host key of {name} is unknown", hint=hint)


def _reason(said: str, word: str) -> str:
    lines = [line for line in said.splitlines() if word in line]
    return escape(lines[-1].strip().rstrip("."), 200) if lines else last_line(said)
