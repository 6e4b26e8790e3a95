"""A file says which engines would take it whole: the GPU delegate, the Edge TPU, the Ethos-U65."""

import dataclasses
from pathlib import Path

import pytest
import torch
from single_nodes import NETS, fully_int8, generator_of
from torch import nn

from edgegen.artifact import Artifact, describe_artifact
from edgegen.errors import ExportError
from edgegen.export.flavours import FLAVOURS, refusals, refused_by, require_taken
from edgegen.export.litert_convert import convert
from edgegen.op_table import load_op_table
from edgegen.rewrite.litert import lower_for_litert
from edgegen.spec import Backend, Precision

GPU = load_op_table("litert-gpu")


class ShuffledGroups(nn.Module):
    """Channels shuffled between four groups: five axes on the way."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, 4, 4, 8, 8).permute(0, 2, 1, 3, 4).reshape(1, 16, 8, 8)


def float_file(*layers: nn.Module, lower: bool = True) -> bytes:
    generator = generator_of(*layers)
    return convert(lower_for_litert(generator) if lower else generator)


def test_the_tables_of_all_flavours_know_what_is_in_a_file() -> None:
    for name in {name for names in FLAVOURS.values() for name in names}:
        table = load_op_table(name)
        assert {"CONV_2D", "TRANSPOSE_CONV", "ADD", "CONCATENATION", "RESHAPE"} <= set(table.file_operations), name
        assert table.most_axes == 4
        assert "GATHER_ND" not in table.file_operations


@pytest.mark.slow
@pytest.mark.parametrize(
    "row", ["conv-edge-padding", "edge-padding", "conv-transpose-sizes", "upsample-repeat", "instance-norm", "shuffle", "elu",
            "clamp-unit", "prelu-single"],
)  # fmt: skip
def test_what_is_lowered_for_litert_runs_whole_on_the_gpu_delegate(row: str) -> None:
    content = float_file(*NETS[row]())
    assert refused_by(content, Precision.F16) == {"litert-gpu": []}
    assert not any("MIRROR_PAD" in operation or "GATHER_ND" in operation for operation in refusals(content, GPU))


@pytest.mark.slow
def test_gathers_of_bicubic_upsampling_are_refused_by_the_gpu_delegate() -> None:
    said = refusals(float_file(*NETS["upsample-bicubic"]()), GPU)
    assert "GATHER_ND is not on its list" in said


@pytest.mark.slow
def test_a_tensor_of_five_axes_is_refused_by_the_gpu_delegate() -> None:
    said = refusals(float_file(ShuffledGroups(), lower=False), GPU)
    assert any("works on 5 axes, it takes 4" in sentence for sentence in said)


@pytest.mark.slow
def test_leaky_relu_is_refused_by_the_edge_tpu_and_taken_by_the_ethos() -> None:
    content = fully_int8(float_file(nn.LeakyReLU(0.2), nn.Conv2d(16, 16, 1)))
    found = refused_by(content, Precision.INT8_FULL)
    assert "LEAKY_RELU is not on its list" in found["edge-tpu"]
    assert not any("LEAKY_RELU" in sentence for sentence in found["ethos-u65"])


@pytest.mark.slow
def test_an_artifact_that_the_engine_of_the_target_would_cut_in_two_is_refused_by_name(tmp_path: Path) -> None:
    generator = generator_of(*NETS["upsample-bicubic"]())
    (tmp_path / "g.tflite").write_bytes(convert(generator))
    made: Artifact = describe_artifact(
        tmp_path, backend=Backend.LITERT, precision=Precision.F16, entry="g.tflite", io=generator.spec, settings={}, facts={}
    )
    with pytest.raises(ExportError, match=r"litert/f16 is not taken by LiteRT GPU delegate.*GATHER_ND is not on its list"):
        require_taken([made], [GPU])
    require_taken([made], [load_op_table("litert-cpu"), dataclasses.replace(GPU, file_operations=())])
