"""Which target a board is, by what it says of itself: the rules under [[detect]] of the profiles in targets/."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from edgegen.device.local import LocalTransport
from edgegen.device.probe import shell
from edgegen.device.transport import Transport
from edgegen.errors import TargetError
from edgegen.target import TargetProfile, list_targets, load_target

UNKNOWN = "unknown"
_MARK = "edgegen-file"
_READ = """
for f in "$@"; do
  echo
  echo "edgegen-file $f"
  head -c 65536 "$f" 2>/dev/null | tr '\\0' '\\n'
done
:
"""


@dataclasses.dataclass(frozen=True)
class Recognised:
    """The id of the target, "unknown" if nothing tells; `match` is "exact" where its rules fit the board, "none" where they do
    not, None where it has none. `note` says what somebody should know of it.
    """

    id: str
    match: str | None = None
    note: str = ""


def recognise(transport: Transport, named: str | None, built_for: str | None = None) -> Recognised:
    """Return which target the device is. `named` is what somebody says it is (None: nobody does), which is checked and believed.

    Where the rules of several targets fit, as those of one board in two power modes do, it is the one that the bundle was
    `built_for`; "unknown" if it was for none of them. Raises LinkLostError for a link that breaks.
    """
    if isinstance(transport, LocalTransport):
        return Recognised(named or "host")
    if named is not None:
        return _checked(transport, named)
    profiles = [profile for profile in list_targets() if profile.detect]
    said = _read(transport, profiles)
    fitting = [profile.id for profile in profiles if _fits(profile, said)]
    if built_for in fitting or len(fitting) == 1:
        return Recognised(built_for if built_for in fitting else fitting[0], "exact")
    if fitting:
        return Recognised(UNKNOWN, note=f"it may be {' or '.join(fitting)}: name its target in devices.toml")
    return Recognised(UNKNOWN, note="it is no target that edgegen recognises: name its target in devices.toml")


def _checked(transport: Transport, named: str) -> Recognised:
    try:
        profile = load_target(named)
    except TargetError:  # a name of the caller's own
        return Recognised(named)
    if not profile.detect:
        return Recognised(profile.id)
    if _fits(profile, _read(transport, [profile])):
        return Recognised(profile.id, "exact")
    asked = ", ".join(rule.file for rule in profile.detect)
    return Recognised(profile.id, "none", f"it is said to be {profile.id}, which {asked} does not confirm")


def _read(transport: Transport, profiles: Sequence[TargetProfile]) -> Mapping[str, str]:
    """Return the files that the rules of `profiles` name, as far as they are there."""
    names = sorted({rule.file for profile in profiles for rule in profile.detect})
    parts = shell(transport, _READ, *names).stdout.split(f"\n{_MARK} ")
    return {name: text for name, _, text in (part.partition("\n") for part in parts[1:])}


def _fits(profile: TargetProfile, said: Mapping[str, str]) -> bool:
    return all(
        rule.contains in said.get(rule.file, "") if rule.contains else re.search(rule.regex, said.get(rule.file, "")) is not None
        for rule in profile.detect
    )
