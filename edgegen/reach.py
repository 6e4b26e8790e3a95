"""What is within reach on a target: how long layers take there, and whether a budget can be met at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgegen.errors import BudgetError

if TYPE_CHECKING:
    from edgegen.latency import LatencyModel
    from edgegen.request import Request

_HOPELESS = 2.0  # the narrowest student this many times over the budget: distillation cannot help, stop before it


def latency_model(request: Request) -> LatencyModel:
    """Return what estimates layers on the target: a table measured here for local targets, kept in OUT, predictions for others.

    Raises BudgetError when there is no table of the device and the profile has no peaks: nothing could steer the pruning.
    """
    from edgegen.candidates import fastest
    from edgegen.latency import MeasuredTable
    from edgegen.prediction import predictor

    target = request.target
    precision = fastest(target.precisions)
    if target.local:
        return MeasuredTable(request.out / "latency-table.json", precision, threads=target.threads, cache=request.tables)
    model = predictor(request, precision)
    if model is None:
        raise BudgetError(
            f"{target.id} has no known peak for {precision.value}, so its latency cannot be predicted",
            hint=f"choose another target, or fill in the profile (`edgegen cp targets/{target.id} .`)",
        )
    return model


def is_within_reach(request: Request, narrowest_ms: float) -> bool:
    """Whether the narrowest student is so near to the latency asked for that training one makes sense."""
    return request.prune_to_s is None or narrowest_ms <= _HOPELESS * request.prune_to_s * 1e3


def require_within_reach(request: Request, narrowest_ms: float, label: str) -> None:
    """Raise BudgetError when even the narrowest student is far from the latency asked for."""
    if request.prune_to_s is not None and not is_within_reach(request, narrowest_ms):
        raise BudgetError(
            f"even the narrowest student needs {narrowest_ms:.3g} ms ({label}) on {request.target.id}, "
            f"the budget is {request.prune_to_s * 1e3:.3g} ms",
            hint="raise --latency, lower --resolution or choose a faster target",
        )
