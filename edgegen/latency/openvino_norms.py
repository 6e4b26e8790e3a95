"""The form in which exports, and the tables that stand for them, give norms over few channels to OpenVINO's CPU plug-in."""

from __future__ import annotations

from typing import Any

import numpy as np

_FEW_CHANNELS = 8


def with_planar_norms(graph: Any) -> Any:
    """Return a copy in which InstanceNorms over few channels see one row per channel, (N, C, H, W) as (N, C, H W): exact.

    The CPU lays pictures out with channels last, where so few leave a vector register mostly empty. The norm of 3 channels of
    256x256 pixels at the end of a style network took 13 % of its f32 time and half of its int8 time; like this it takes 1 %.
    With a tanh or sigmoid behind it the plug-in (2026.4, AVX-512) computes what lies in the empty part as well: 1.8 or 17 ms,
    by what was in memory when the model was compiled.
    """
    from openvino import opset13

    made = graph.clone()
    for norm in [operation for operation in made.get_ordered_ops() if _is_narrow_norm(operation)]:
        source, shape = norm.input_value(0), [int(size) for size in norm.get_output_shape(0)]
        rows = opset13.constant(np.array([*shape[:2], -1], np.int64))
        settings = norm.get_attributes()
        flat = opset13.reshape(source, rows, False)
        axis = opset13.constant(np.array([2], np.int64))
        normed = opset13.mvn(flat, axis, settings["normalize_variance"], settings["eps"], settings["eps_mode"])
        whole = opset13.reshape(normed, opset13.constant(np.array(shape, np.int64)), False)
        normed.set_friendly_name(norm.get_friendly_name())
        whole.set_friendly_name(norm.get_friendly_name() + "/picture")
        for target in list(norm.output(0).get_target_inputs()):
            target.replace_source_output(whole.output(0))
    made.validate_nodes_and_infer_types()
    return made


def _is_narrow_norm(operation: Any) -> bool:
    if operation.get_type_name() != "MVN" or len(operation.get_output_shape(0)) != 4:
        return False
    given = operation.input_value(1).get_node()
    if given.get_type_name() != "Constant":
        return False
    axes = sorted(int(axis) % 4 for axis in np.array(given.data).ravel())
    return axes == [2, 3] and int(operation.get_output_shape(0)[1]) <= _FEW_CHANNELS
