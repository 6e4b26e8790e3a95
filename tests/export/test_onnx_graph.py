"""Generators become small, static, readable ONNX files."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from small_generators import DenseSkips, Style, generator_of, samples, torch_outputs
from torch import nn

from edgegen.errors import ExportError
from edgegen.export.onnx_graph import constants, feeds, io_names, readers, to_bytes, to_onnx
from edgegen.export.onnx_ranges import outputs
from edgegen.layers import Reshape


def test_nodes_are_named_after_their_layers() -> None:
    model = to_onnx(generator_of(Style()))
    names = [node.name for node in model.graph.node]
    assert names[:3] == ["layers.0/Pad", "layers.1/Conv", "layers.2/InstanceNormalization"]
    assert "layers.8.conv2/Conv" in names
    assert len(names) == len(set(names))


def test_the_file_is_static_opset_20_and_holds_only_what_is_read() -> None:
    model = to_onnx(generator_of(DenseSkips()))
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert set(constants(model)) <= set(readers(model))
    assert all(dim.dim_value > 0 for value in model.graph.input for dim in value.type.tensor_type.shape.dim)
    assert not any(node.op_type in ("Constant", "Identity") for node in model.graph.node)
    onnx.checker.check_model(model, full_check=True)


def test_an_output_called_like_the_input_gets_a_name_of_its_own() -> None:
    generator = generator_of(DenseSkips())
    (made,) = generator.spec.outputs
    generator = dataclasses.replace(
        generator, spec=dataclasses.replace(generator.spec, outputs=(dataclasses.replace(made, name="image"),))
    )
    assert io_names(generator) == (["image"], ["image_out"])
    assert [value.name for value in to_onnx(generator).graph.output] == ["image_out"]


class Zoo(nn.Module):
    """Layers of the vocabulary that the usual generators do without."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(12, 8, 3, padding=1, padding_mode="reflect"), nn.ELU(), nn.ReplicationPad2d(1),
            nn.Conv2d(8, 8, 3), nn.GELU(), nn.AvgPool2d(2), nn.Conv2d(8, 8, 1), nn.SiLU(),
            nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(8, 8, 1), nn.Softplus(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 1),
            nn.ReLU6(), nn.Upsample(scale_factor=4, mode="bicubic"), nn.ConstantPad2d(1, 0.5), nn.Conv2d(8, 3, 3),
            nn.Hardtanh(-1, 1),
        )  # fmt: skip
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3), nn.Sigmoid(), Reshape((3, 1, 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layers(x)
        return y * self.gate(y)


def test_rarer_layers_compute_what_torch_computes() -> None:
    generator = generator_of(Zoo())
    model = to_onnx(generator)
    given = samples(generator, 2, seed=1)
    for found, wanted in zip(outputs(model, feeds(model, given)), torch_outputs(generator, given), strict=True):
        assert np.abs(found[0] - wanted).max() < 1e-4  # float32, values of order 1, nine layers


def test_the_same_generator_gives_the_same_bytes() -> None:
    generator = generator_of(DenseSkips())
    assert to_bytes(to_onnx(generator)) == to_bytes(to_onnx(generator))


def test_what_onnx_cannot_express_is_named() -> None:
    class Bessel(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x)

    generator = dataclasses.replace(generator_of(DenseSkips()), module=torch.fx.symbolic_trace(Bessel()))
    with pytest.raises(ExportError, match="cannot express 'bessel_j0'"):
        to_onnx(generator)
