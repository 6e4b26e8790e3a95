"""edgegen: trained image generators in real time on small devices.

The names below load on first use: importing this costs nothing, and devices that only need `edgegen.runtime` never see torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgegen.bench import bench as bench_bundle
    from edgegen.bundle import open_bundle
    from edgegen.errors import EdgegenError
    from edgegen.load import load as load_checkpoint
    from edgegen.pipeline import compress
    from edgegen.progress import Silent
    from edgegen.recipe import load_recipe
    from edgegen.request import Request
    from edgegen.spec import Budget
    from edgegen.target import list_targets, load_target

__version__ = "0.1.0"

__all__ = [
    "Budget", "EdgegenError", "Request", "Silent", "bench_bundle", "compress", "list_targets", "load_checkpoint", "load_recipe",
    "load_target", "open_bundle",
]  # fmt: skip

# Public name -> where it lives. No name may be that of a submodule: importing the submodule would take its place.
_HOMES = {
    "Budget": "edgegen.spec:Budget",
    "EdgegenError": "edgegen.errors:EdgegenError",
    "Request": "edgegen.request:Request",
    "Silent": "edgegen.progress:Silent",
    "bench_bundle": "edgegen.bench:bench",
    "compress": "edgegen.pipeline:compress",
    "list_targets": "edgegen.target:list_targets",
    "load_checkpoint": "edgegen.load:load",
    "load_recipe": "edgegen.recipe:load_recipe",
    "load_target": "edgegen.target:load_target",
    "open_bundle": "edgegen.bundle:open_bundle",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError("module 'edgegen' has no attribute '" + name + "'")
    import importlib

    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
