"""Targets: what a device runs, what it may cost, and how sure each number is. Strict TOML in, frozen values out."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgegen.errors import TargetError, nearest
from edgegen.resources import looks_like_path, resource_names, resource_path
from edgegen.spec import Precision
from edgegen.strict_toml import read_toml
from edgegen.support import Export, Status, export_of, offered, parse_backend, status_on
from edgegen.target_schema import Evidence, Figure, PrecisionRule, Rewrite, Software, TargetProfile

__all__ = [
    "Evidence",
    "Figure",
    "Rewrite",
    "TargetProfile",
    "list_exports",
    "list_targets",
    "load_target",
    "read_target",
    "resolve_target",
    "with_backend",
]

_SCHEMA = "edgegen.target/1"
_READABLE = (
    "/proc/device-tree/",
    "/proc/cpuinfo",
    "/etc/nv_tegra_release",
    "/etc/os-release",
    "/sys/class/thermal",
    "/sys/class/hwmon",
)


def load_target(name: str) -> TargetProfile:
    """Return the target called `name`: an id, an alias, or a path to a TOML file; else TargetError with the nearest names."""
    return resolve_target(name)[0]


def resolve_target(name: str) -> tuple[TargetProfile, float | None]:
    """Return the target and, if `name` is an alias that stands for a use such as "ar", its frame budget in seconds."""
    if looks_like_path(name):
        return read_target(Path(name)), None
    if name in resource_names("targets"):
        return read_target(resource_path("targets", name, error=TargetError)), None
    profiles = list_targets()
    for profile in profiles:
        if name in profile.aliases:
            return profile, next((b.seconds for b in profile.budgets if name in b.aliases), None)
    known = [word for profile in profiles for word in (profile.id, *profile.aliases)]
    raise TargetError(f"target '{name}' is unknown", hint=nearest(name, known))


def profile_digest(target_id: str) -> str | None:
    """Return the SHA-256 of the TOML of a built-in target; None for any other id."""
    if target_id not in resource_names("targets"):
        return None
    return hashlib.sha256(resource_path("targets", target_id, error=TargetError).read_bytes()).hexdigest()


def jetpack_of(target_id: str, l4t: str | None) -> str | None:
    """Return the JetPack that the profile of a built-in target names for a release of Jetson Linux; None where it names none."""
    if l4t is None or target_id not in resource_names("targets"):
        return None
    rows = load_target(target_id).software
    return next((row.jetpack for row in rows if row.l4t == l4t and row.jetpack), None)


def with_backend(profile: TargetProfile, name: str) -> TargetProfile:
    """Return `profile` with the back end called `name` as its best; TargetError where the device has no such back end."""
    wanted = parse_backend(name)
    chosen = [support for support in profile.backends if support.id is wanted]
    if not chosen:
        known = ", ".join(support.id.value for support in profile.backends)
        raise TargetError(f"{profile.id} has no back end '{name}'", hint=f"it has {known}")
    return dataclasses.replace(profile, backends=(*chosen, *(b for b in profile.backends if b.id is not wanted)))


def list_targets() -> list[TargetProfile]:
    """Return all built-in targets: host first, then by id."""
    names = sorted(resource_names("targets"), key=lambda name: (name != "host", name))
    return [read_target(resource_path("targets", name, error=TargetError)) for name in names]


def list_exports(profiles: Sequence[TargetProfile] = ()) -> list[tuple[TargetProfile, Export, Status]]:
    """Return every back end and precision of every target (all built-in ones if none are given) with its status there."""
    return [
        (profile, row, status_on(row, local=profile.local))
        for profile in profiles or list_targets()
        for support in profile.backends
        for row in (export_of(support.id, precision) for precision in support.precisions)
    ]


def read_target(path: Path) -> TargetProfile:
    """Read and check the profile at `path`; raise TargetError naming the key that breaks the schema."""
    profile = read_toml(path, TargetProfile, schema=_SCHEMA, error=TargetError)
    for fact in _contradictions(profile, path.stem):
        raise TargetError(f"{path}: {fact}", hint="targets/README.md documents the schema")
    return profile


def _contradictions(profile: TargetProfile, stem: str) -> Iterator[str]:
    """Yield what the types alone cannot refuse."""
    if profile.id != stem:
        yield f"id is '{profile.id}' but the file is called '{stem}.toml'"
    if not profile.backends or not all(b.precisions for b in profile.backends):
        yield "backends: at least one is needed, each with precisions"
    if set(profile.rewrites) != {rewrite.value for rewrite in Rewrite}:
        yield "rewrites: exactly these keys are needed: " + ", ".join(rewrite.value for rewrite in Rewrite)
    ids = [mode.nvpmodel_id for mode in profile.power_modes if mode.nvpmodel_id is not None]
    for what, values in (
        ("backends.id", [b.id.value for b in profile.backends]),
        ("power_modes.name", [mode.name for mode in profile.power_modes]),
        ("power_modes.nvpmodel_id", ids),
        ("sources.id", [source.id for source in profile.sources]),
        ("precision_rules.unit", [rule.unit for rule in profile.precision_rules]),
        ("accelerators.unit", [accelerator.unit for accelerator in profile.accelerators]),
        ("aliases", [*profile.aliases]),
        ("budgets.aliases", [alias for budget in profile.budgets for alias in budget.aliases]),
    ):
        if len(set(values)) < len(values):
            yield f"{what}: a value appears twice"
    for support in profile.backends:
        for precision in set(support.precisions) - set(offered(support.id)):
            yield f"backends: {support.id.value} in {precision.value}: {export_of(support.id, precision).reason}"
    yield from _loose_ends(profile)


def _loose_ends(profile: TargetProfile) -> Iterator[str]:
    """Yield references that lead nowhere."""
    modes = {mode.name for mode in profile.power_modes} | {"default"}
    for unit in profile.units:
        if unit.mode not in modes:
            yield f"units.mode: '{unit.mode}' is not one of power_modes"
    engines = {(unit.unit, unit.mode) for unit in profile.units}
    if profile.predict and (profile.predict.unit, profile.predict.mode) not in engines:
        yield f"predict: units has no '{profile.predict.unit}' in mode '{profile.predict.mode}'"
    for key, reached in (profile.predict.utilisation if profile.predict else {}).items():
        if key not in {"memory", *(p.value for p in Precision)} or reached.value > 1:
            yield f"predict.utilisation.{key}: the keys are precisions and 'memory', the values are at most 1"
    for budget in profile.budgets:
        if set(budget.aliases) - set(profile.aliases) or (budget.share and budget.share.value > 1):
            yield f"budgets: '{budget.use}' has an alias that is not one of aliases, or a share above 1"
    for table in (*(t for b in profile.backends for t in b.op_tables), *(a.op_table for a in profile.accelerators)):
        if table and table not in resource_names("ops"):
            yield f"'{table}' is not an op table: {nearest(table, resource_names('ops'))}"
    for rule in profile.detect:
        if not rule.file.startswith(_READABLE) or ".." in rule.file or bool(rule.contains) == bool(rule.regex):
            yield f"detect: '{rule.file}' is not a file edgegen may read, or has not exactly one of contains and regex"
        elif not _compiles(rule.regex):
            yield f"detect: {rule.regex!r} is not a regular expression"
    yield from _unsourced(profile)


def _unsourced(profile: TargetProfile) -> Iterator[str]:
    """Yield claims without evidence: a seen number needs a source, a derived one a source or a note that shows the arithmetic."""
    known = {source.id for source in profile.sources}
    claims: list[tuple[str, Figure | Software | PrecisionRule]] = [*profile.figures().items()]
    claims += [(f"software[{i}]", row) for i, row in enumerate(profile.software)]
    claims += [(f"precision_rules[{i}]", rule) for i, rule in enumerate(profile.precision_rules)]
    for key, claim in claims:
        if claim.source and claim.source not in known:
            yield f"{key}: source '{claim.source}' is not one of sources"
        if not claim.source and claim.evidence is Evidence.SEEN:
            yield f"{key}: evidence S needs a source"
        if not claim.source and not claim.note and claim.evidence is Evidence.DERIVED:
            yield f"{key}: evidence D needs a source, or a note that shows the arithmetic"


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
