"""Every row of an op table that names a runtime is true there: the smallest generator that hits it shows the limit."""

import collections
import dataclasses
import re
from pathlib import Path

import pytest
from single_nodes import NETS, dynamic_int8, fully_int8, generator_of, onnxruntime_operations, openvino_types
from torch import nn

from edgegen.errors import ExportError
from edgegen.export.litert_convert import convert
from edgegen.export.litert_facts import delegation
from edgegen.export.litert_graph import read_operations
from edgegen.export.preflight import preflight_all
from edgegen.op_table import Action, OpTable, Row, Runtime, list_op_tables
from edgegen.rewrite.litert import lower_for_litert
from edgegen.spec import Precision
from edgegen.target import load_target


@dataclasses.dataclass(frozen=True)
class Seen:
    """What shows a limit in LiteRT. `left` is what XNNPACK leaves out; `float_in_int8` what the quantiser keeps in float.

    `stays` is true where edgegen's own lowering cannot take the limit away.
    """

    left: str = ""
    in_int8: bool = False
    float_in_int8: str = ""
    dynamic: bool = False
    refused: str = ""
    more_than: tuple[str, int] = ("", 0)
    stays: bool = False


LITERT = {
    "conv-edge-padding": Seen(left="MIRROR_PAD"),
    "conv-depthwise-dynamic": Seen(left="DEPTHWISE_CONV_2D", dynamic=True, stays=True),
    "conv-transpose-grouped": Seen(more_than=("TRANSPOSE_CONV", 3)),
    "conv-transpose-sizes": Seen(refused="failed to legalize"),
    "edge-padding": Seen(left="MIRROR_PAD"),
    "constant-padding": Seen(left="PADV2", stays=True),
    "upsample-repeat": Seen(left="RESIZE_NEAREST_NEIGHBOR"),
    "upsample-nearest": Seen(left="RESIZE_NEAREST_NEIGHBOR", stays=True),
    "upsample-bicubic": Seen(left="GATHER_ND", stays=True),
    "instance-norm": Seen(left="RSQRT", in_int8=True, stays=True),  # edgegen leaves it in float: tests/export/test_tflite.py
    "shuffle": Seen(more_than=("TRANSPOSE", 2)),
    "prelu-single": Seen(more_than=("MUL", 1)),
    "prelu-channels": Seen(left="RELU", in_int8=True, stays=True),
    "leaky-relu": Seen(float_in_int8="LEAKY_RELU", stays=True),
    "relu-standalone": Seen(left="RELU", in_int8=True, stays=True),
    "elu": Seen(left="SELECT"),
    "gelu": Seen(left="GELU", in_int8=True, stays=True),
    "softplus": Seen(left="SELECT", stays=True),
    "clamp-unit": Seen(left="RELU_0_TO_1"),
    "clamp": Seen(left="MAXIMUM", in_int8=True, stays=True),
    "avg-pool": Seen(left="AVERAGE_POOL_2D", in_int8=True, stays=True),
    "adaptive-pool": Seen(left="AVERAGE_POOL_2D", in_int8=True, stays=True),
    "adaptive-pool-uneven": Seen(refused="invalidly specified", stays=True),
    "division": Seen(left="DIV", in_int8=True, stays=True),
}
OPENVINO = {  # the layer that runs in float in an otherwise int8 network
    "conv-transpose-grouped": "Deconvolution",
    "conv-transpose-stride": "Deconvolution",
    "conv-transpose-signed": "Deconvolution",
    "instance-norm": "MVN",
    "upsample-smooth": "Interpolate",
    "adaptive-pool": "AdaptivePooling",
    "slice": "StridedSlice",
    "softplus": "softplus",
}
ORT_NETS = {"adaptive-pool": "adaptive-pool-uneven"}  # the row of the same name is about outputs that do not divide the input
OV_NETS = {"adaptive-pool": "adaptive-pool-uneven"}
ROWS = [(table, row) for table in list_op_tables() for row in table.rows if row.confirmed_by is not Runtime.NONE]


def of(runtime: Runtime) -> list[str]:
    return sorted({row.id for _, row in ROWS if row.confirmed_by is runtime})


def layers(row: str, instead: dict[str, str] | None = None) -> list[nn.Module]:
    return NETS[(instead or {}).get(row, row)]()


def test_every_row_that_names_a_runtime_has_its_test() -> None:
    assert of(Runtime.LITERT) == sorted(LITERT)
    assert of(Runtime.OPENVINO) == sorted(OPENVINO)
    assert of(Runtime.ONNXRUNTIME) == ["adaptive-pool", "conv-depthwise", "conv-transpose", "instance-norm"]


@pytest.mark.parametrize(("table", "row"), ROWS, ids=[f"{table.id} {row.id}" for table, row in ROWS])
def test_the_smallest_generator_of_a_row_hits_that_row(table: OpTable, row: Row) -> None:
    other = ORT_NETS if row.confirmed_by is Runtime.ONNXRUNTIME else OV_NETS if row.confirmed_by is Runtime.OPENVINO else {}
    precision = row.dtypes[0] if row.dtypes else Precision.INT8
    found = preflight_all(generator_of(*layers(row.id, other)), load_target("host"), precision, (table,))
    (hit,) = [finding for finding in found if finding.row == row.id]
    assert (hit.action, hit.reason, hit.limit, hit.table) == (row.action, row.reason, row.limit, table.id)


def limit_shows(content: bytes, seen: Seen) -> bool:
    """Return whether a float .tflite, or what its quantiser makes of it, shows the limit."""
    if seen.dynamic:
        content = dynamic_int8(content)
    elif seen.in_int8 or seen.float_in_int8:
        content = fully_int8(content)
    kinds = [operation.kind for operation in read_operations(content)]
    if seen.float_in_int8:
        return re.search(f"DEQUANTIZE {seen.float_in_int8} QUANTIZE", " ".join(kinds)) is not None
    if seen.more_than[0]:
        return kinds.count(seen.more_than[0]) > seen.more_than[1]
    _, _, left = delegation(content)
    assert left is not None
    return seen.left in left


@pytest.mark.slow
@pytest.mark.parametrize("row", sorted(LITERT))
def test_a_limit_of_litert_is_seen_in_litert(row: str) -> None:
    seen, generator = LITERT[row], generator_of(*layers(row))
    if seen.refused:
        with pytest.raises((ExportError, ValueError), match=seen.refused):
            delegation(convert(generator))
    else:
        assert limit_shows(convert(generator), seen)
    if not seen.stays:
        lowered = convert(lower_for_litert(generator))
        assert not limit_shows(lowered, dataclasses.replace(seen, refused=""))
        assert delegation(lowered)[2] == {}


def test_rows_without_a_rewrite_are_those_whose_limit_stays() -> None:
    actions = {row.id: row.action for table, row in ROWS if table.id == "litert-cpu"}
    assert {row for row, action in actions.items() if action is Action.REWRITTEN} - {"instance-norm"} == {
        row for row, seen in LITERT.items() if not seen.stays
    }


@pytest.mark.parametrize("row", sorted(OPENVINO))
def test_a_limit_of_openvino_is_seen_in_openvino(row: str) -> None:
    ran = openvino_types(generator_of(*layers(row, OV_NETS), tail=True))
    assert ran[OPENVINO[row]] == {"float"}
    assert ran["Convolution"] == {"int8"}  # the network is an int8 one


@pytest.mark.parametrize(
    ("layer", "kind"),
    [(nn.Upsample(scale_factor=2), "Interpolate"), (nn.PixelShuffle(2), "DepthToSpace"), (nn.AvgPool2d(2), "Pooling")],
    ids=["nearest", "shuffle", "pool"],
)
def test_what_openvino_runs_natively_stays_in_int8(layer: nn.Module, kind: str) -> None:
    assert openvino_types(generator_of(layer, tail=True))[kind] == {"int8"}


def test_a_transposed_convolution_behind_a_relu_runs_in_int8_where_the_processor_has_the_instructions() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    ran = openvino_types(generator_of(nn.ReLU(), nn.ConvTranspose2d(16, 16, 4, 2, 1), tail=True))
    assert ran["Deconvolution"] == ({"int8"} if "avx512_vnni" in flags else ran["Deconvolution"])


def test_a_transposed_convolution_has_no_int8_kernel_in_onnxruntime() -> None:
    counts = collections.Counter(onnxruntime_operations(generator_of(*layers("conv-transpose"), tail=True)))
    assert counts["ConvTranspose"] == 1
    assert not any("ConvTranspose" in kind and kind.startswith("Q") for kind in counts)


def test_a_norm_and_the_convolution_before_it_run_in_float_in_onnxruntime() -> None:
    counts = collections.Counter(onnxruntime_operations(generator_of(*layers("instance-norm"), tail=True)))
    assert counts["InstanceNormalization"] == 1 and counts["Conv"] >= 2 and counts["QLinearConv"] == 0
    plain = collections.Counter(onnxruntime_operations(generator_of(nn.Conv2d(16, 16, 3, padding=1), tail=True)))
    assert plain["QLinearConv"] == 2  # the last one gives float


def test_a_depthwise_convolution_stays_in_float_in_onnxruntime() -> None:
    counts = collections.Counter(onnxruntime_operations(generator_of(*layers("conv-depthwise"), tail=True)))
    assert counts["QLinearConv"] == 0 and counts["Conv"] >= 2


def test_an_uneven_adaptive_pool_becomes_a_graph_of_gathers_in_onnx() -> None:
    counts = collections.Counter(onnxruntime_operations(generator_of(*layers("adaptive-pool", ORT_NETS), tail=True)))
    assert counts["Split"] + counts["Squeeze"] + counts["GatherND"] > 10
    even = collections.Counter(onnxruntime_operations(generator_of(nn.AdaptiveAvgPool2d(4), tail=True)))
    assert even["AveragePool"] == 1
