"""Lower a generator for TensorRT: what its ONNX parser takes but its int8 and fusion rules suffer from is rewritten, exactly.

TensorRT runs reflection padding, InstanceNorm and depth-to-space natively, so little is left: norms with fixed statistics fold
into convolutions, and a PReLU with one slope becomes LeakyReLU, which fuses with the convolution before it. ConvTranspose is
left to the rewrite stage: whether the sub-pixel form pays is the target's to say.
"""

from __future__ import annotations

from torch import nn

from edgegen.generator import Generator
from edgegen.graph import clean, layer_of, replace_layer, separate_calls
from edgegen.rewrite.batch_norm import fold_batch_norm


def lower_for_tensorrt(generator: Generator) -> Generator:
    """Return a copy whose module computes the same, in the operations that TensorRT fuses."""
    lowered = generator.copy()
    module = lowered.module
    separate_calls(module)
    for node in list(module.graph.nodes):
        layer = layer_of(module, node)
        new = None if layer is None else _lowered(layer)
        if new is not None:
            replace_layer(module, node, [new])
    clean(module)
    fold_batch_norm(module)
    module.eval()
    return lowered


def _lowered(layer: nn.Module) -> nn.Module | None:
    """Return the layer that replaces `layer`; None if it stays as it is."""
    match layer:
        case nn.PReLU(num_parameters=1):
            return nn.LeakyReLU(float(layer.weight.detach()))
        case nn.InstanceNorm2d(track_running_stats=True):
            return _as_batch_norm(layer)
        case _:
            return None


def _as_batch_norm(norm: nn.InstanceNorm2d) -> nn.BatchNorm2d:
    """Return the BatchNorm that an InstanceNorm with running statistics is in eval mode."""
    assert norm.running_mean is not None
    made = nn.BatchNorm2d(norm.num_features, eps=norm.eps, affine=norm.affine, dtype=norm.running_mean.dtype)
    made.load_state_dict(norm.state_dict())
    return made.eval()
