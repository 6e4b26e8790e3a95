"""Int8 candidates for OpenVINO, found by what each operation costs the picture and what float costs in its place.

NNCF places the quantisers and sets their ranges. Then every quantised operation is run in int8 alone, all others in float: that
is its error; from its profile comes what float costs in its place. Sets of operations that trade the two best become candidates,
and the gate measures them as a whole. It is NNCF's accuracy control, with the picture as the measure.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from edgegen.errors import ExportError
from edgegen.export.openvino_graph import int8_operations, with_float
from edgegen.export.openvino_judge import Judge, LayerRun, decibels, layer_runs
from edgegen.latency.clock import Timed, fastest_seconds
from edgegen.pictures import Arrays
from edgegen.ranges import ENOUGH_DB
from edgegen.spec import ComponentSpec

_MOST_DB = 50.0
_POOR_DB = 36.0  # below, the gate hardly ever keeps a picture
_LEAST_S, _LEAST_SHARE = 3e-6, 0.002  # what float costs at least: the conversions around it, which no profile attributes
_TELLS = 0.998  # of the error of a picture
_BETTER_DB = 1.0
_FASTER = 0.97  # a difference of 3 % is more than noise


@dataclasses.dataclass(frozen=True)
class Int8Search:
    """How much may be tried. Each preset keeps those of the `ranges` of activations that show the best picture. `evaluations`
    graphs tell what operations cost the picture (0: none are left in float, and the first of `ranges` is taken), judged on
    `judges` of the calibration inputs; `forms` candidates with operations in float are made beside the fully quantised ones.
    `arithmetic` is what those operations compute in: "f32", or "bf16" on processors that have it.
    """

    presets: tuple[str, ...] = ("mixed",)
    ranges: tuple[str, ...] = ("mean",)
    evaluations: int = 0
    judges: int = 2
    forms: int = 0
    arithmetic: str = "f32"


@dataclasses.dataclass(frozen=True)
class Int8Form:
    """An int8 graph. `kept_float` are the operations left in float that the quantiser would have taken; `psnr_db` is to the float
    graph, on a few calibration inputs (None: not judged)."""

    graph: Any
    preset: str
    ranges: str
    kept_float: tuple[str, ...] = ()
    psnr_db: float | None = None


def quantise(
    graph: Any, calibration: Sequence[Arrays], *, preset: str, ranges: str | None = None, float_types: Sequence[str] = ()
) -> Any:
    """Return an int8 copy of `graph`, quantised by NNCF over all of `calibration`, operations of `float_types` left alone.

    `preset` is NNCF's: "performance", its default, has symmetric activations, "mixed" asymmetric ones where they are not all
    positive. `ranges` is where activations are cut off: the "mean" or the "median" over the samples of their least and largest
    values, or "min-max" of them all; None: as NNCF would.
    """
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet as Ranges

    if not calibration:
        raise ExportError("int8 needs calibration inputs and there are none", hint="give --data")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    names = [port.get_any_name() for port in graph.inputs]
    data = nncf.Dataset(list(calibration), lambda item: dict(zip(names, item, strict=True)))
    known = {"mean": Ranges.MEAN_MINMAX, "median": Ranges.MEDIAN_MINMAX, "min-max": Ranges.MINMAX}
    advanced = nncf.AdvancedQuantizationParameters(activations_range_estimator_params=known[ranges]) if ranges else None
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars would stand in front of --json
        return nncf.quantize(
            graph.clone(),
            data,
            preset=nncf.QuantizationPreset(preset),
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(types=list(float_types), validate=False),
            advanced_parameters=advanced,
        )


def int8_forms(graph: Any, spec: ComponentSpec, calibration: Sequence[Arrays], search: Int8Search) -> list[Int8Form]:
    """Return int8 candidates for the float `graph`, the fully quantised ones first, then with more and more in float.

    Where full int8 shows what the float graph shows (45 dB on some calibration inputs), nothing is left in float.
    """
    judge = Judge(graph, spec, calibration[: search.judges]) if search.evaluations else None
    full = [_quantised(graph, calibration, preset, search, judge) for preset in search.presets]
    if judge is None:
        return full
    full = _worth_keeping(full, search.arithmetic)
    best = full[0]
    operations = int8_operations(best.graph)
    if not operations or (best.psnr_db or 0.0) >= ENOUGH_DB:
        return full
    groups = _groups(operations, search.evaluations)
    errors = [judge.error(with_float(best.graph, graph, set(operations) - set(group))) for group in groups]
    timed = [Timed(g, cold=False, arithmetic=search.arithmetic) for g in (best.graph, graph)]
    int8_s, float_s = fastest_seconds(timed, threads=1)
    int8 = layer_runs(best.graph, calibration[0], arithmetic=search.arithmetic, whole_s=int8_s)
    floats = layer_runs(graph, calibration[0], arithmetic=search.arithmetic, whole_s=float_s)
    least_s = max(_LEAST_S, _LEAST_SHARE * int8_s)
    costs = [sum(max(least_s, _cost(name, int8, floats)) for name in group) for group in groups]
    for kept in _cuts(groups, errors, costs, _Limits(int8_s, float_s, search.forms)):
        form = with_float(best.graph, graph, kept)
        full.append(Int8Form(form, best.preset, best.ranges, kept, decibels(judge.error(form, search.arithmetic))))
    return full


def _quantised(graph: Any, calibration: Sequence[Arrays], preset: str, search: Int8Search, judge: Judge | None) -> Int8Form:
    """Return the fully quantised form with those of the ranges that show the best picture; they do not change its speed.

    The first ones stay where the others gain nothing that few calibration inputs can tell.
    """
    forms = list[Int8Form]()
    for ranges in search.ranges:
        form = Int8Form(quantise(graph, calibration, preset=preset, ranges=ranges), preset, ranges)
        if judge is None:
            return form
        forms.append(dataclasses.replace(form, psnr_db=decibels(judge.error(form.graph, search.arithmetic))))
    best = max(forms, key=lambda form: form.psnr_db or 0.0)
    return best if (best.psnr_db or 0.0) > (forms[0].psnr_db or 0.0) + _BETTER_DB else forms[0]


def _worth_keeping(full: list[Int8Form], arithmetic: str) -> list[Int8Form]:
    """Return the forms, the one to go on with first (the best picture of the fastest), without those that another one beats."""
    if len(full) == 1:
        return full
    seconds = fastest_seconds([Timed(form.graph, cold=False, arithmetic=arithmetic) for form in full], threads=1)
    order = sorted(range(len(full)), key=lambda i: seconds[i])
    equal = [i for i in order if seconds[order[0]] >= seconds[i] * _FASTER]
    best = max(equal, key=lambda i: full[i].psnr_db or 0.0)
    others = [i for i in order if (full[i].psnr_db or 0.0) > (full[best].psnr_db or 0.0) + _BETTER_DB]
    return [full[i] for i in (best, *others)]


def _groups(operations: Mapping[str, str], most: int) -> list[tuple[str, ...]]:
    """Return the operations one by one, or in at most `most` groups: neighbours of one kind, the first and the last alone."""
    names = list(operations)
    if len(names) <= most:
        return [(name,) for name in names]
    ends = {names[0], names[-1]}
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault("" if name in ends else operations[name], []).append(name)
    alone = [(name,) for name in kinds.pop("", [])]
    share = max(1, (most - len(alone)) // max(1, len(kinds)))
    chunks = []
    for members in kinds.values():
        size = -(-len(members) // share)
        chunks += [tuple(members[i : i + size]) for i in range(0, len(members), size)]
    return alone + chunks


def _cost(name: str, int8: Mapping[str, LayerRun], floats: Mapping[str, LayerRun]) -> float:
    """Return the seconds that an operation takes longer in float: none where the quantised graph runs it in float anyway."""
    if name not in int8 or name not in floats or int8[name].type != "int8":
        return 0.0
    return max(0.0, floats[name].seconds - int8[name].seconds)


@dataclasses.dataclass(frozen=True)
class _Limits:
    """Seconds of the fully quantised and of the float graph, and how many cuts are wanted between the two."""

    int8_s: float
    float_s: float
    count: int


class _Step(NamedTuple):
    """A set of operations left in float, and the picture and the time that it is expected to have."""

    db: float
    seconds: float
    kept: tuple[str, ...]


def _cuts(
    groups: Sequence[tuple[str, ...]], errors: Sequence[float], costs: Sequence[float], limits: _Limits
) -> list[tuple[str, ...]]:
    """Return at most `limits.count` sets of operations to leave in float: the best picture for free, the whole picture, and what
    fills the widest gaps, in dB and in time.
    """
    steps = [_Step(decibels(max(left, 0.0)), limits.int8_s + spent, kept) for left, spent, kept in _worth(groups, errors, costs)]
    steps = [step for step in steps if step.seconds < limits.float_s]
    steps = _until(steps, _MOST_DB)
    if not steps:
        return []
    cheap = [step for step in steps if step.seconds <= limits.int8_s / _FASTER]
    start, top = (cheap[-1] if cheap else steps[0]), steps[-1]
    chosen = [start, top][: limits.count]
    between = [step for step in steps if step not in chosen]
    while len(chosen) < limits.count and between:
        widest = max(between, key=lambda step: min(_apart(step, other) for other in chosen))
        chosen.append(widest)
        between.remove(widest)
    return [step.kept for step in sorted(set(chosen), key=lambda step: step.seconds)]


def _worth(
    groups: Sequence[tuple[str, ...]], errors: Sequence[float], costs: Sequence[float]
) -> list[tuple[float, float, tuple[str, ...]]]:
    """Return (error of what stays int8, seconds of what does not, operations in float) of all sets that no other one beats,
    cheapest first.

    Both add up over the groups, so this is the front of a knapsack. Per group, 0.2 % of the error are not told apart.
    """
    front = [(0.0, 0.0, ())]
    for group, error, cost in zip(groups, errors, costs, strict=True):
        int8 = [(left + error, spent, kept) for left, spent, kept in front]
        floats = [(left, spent + cost, (*kept, *group)) for left, spent, kept in front]
        found = sorted(int8 + floats, key=lambda step: (step[1], step[0]))
        front = found[:1]
        for step in found[1:]:
            if step[0] < front[-1][0] * _TELLS:
                front.append(step)
    return front


def _apart(one: _Step, other: _Step) -> float:
    """Return how far two steps are apart: 3 dB weigh as much as twice the time, and nothing where both would fail the gate."""
    return math.hypot((max(one.db, _POOR_DB) - max(other.db, _POOR_DB)) / 3.0, math.log2(one.seconds / other.seconds))


def _until(steps: list[_Step], db: float) -> list[_Step]:
    """Return the steps up to the first that reaches `db`: what comes after it buys nothing that can be seen."""
    return steps[: next((i + 1 for i, step in enumerate(steps) if step.db >= db), len(steps))]
