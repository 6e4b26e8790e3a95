import numpy as np

from edgegen.latency.openvino_norms import with_planar_norms
from edgegen.latency.openvino_snippets import openvino_model
from edgegen.latency.snippets import PassOver
from edgegen.latency.work import Pass


def _norm_shapes(model) -> list[list[int]]:
    return [list(op.get_output_shape(0)) for op in model.get_ops() if op.get_type_name() == "MVN"]


def test_a_norm_of_few_channels_is_laid_out_by_rows_and_gives_the_same() -> None:
    import openvino as ov
    from openvino import opset13

    picture = opset13.parameter([1, 3, 32, 32], np.float32)
    graph = ov.Model([opset13.mvn(picture, opset13.constant([2, 3]), True, 1e-5, "inside_sqrt")], [picture])
    planar = with_planar_norms(graph)
    assert (_norm_shapes(graph), _norm_shapes(planar)) == ([[1, 3, 32, 32]], [[1, 3, 1024]])
    given = np.random.default_rng(2).standard_normal((1, 3, 32, 32)).astype(np.float32)
    as_is, rows = (ov.Core().compile_model(g, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([given])[0] for g in (graph, planar))
    assert np.abs(as_is - rows).max() < 1e-5


def test_tables_time_a_norm_in_the_form_that_exports_give_it() -> None:
    few, many = (openvino_model(PassOver(Pass(("norm", "tanh"), 16, 16), channels, False)) for channels in (3, 16))
    assert (_norm_shapes(few), _norm_shapes(many)) == ([[1, 3, 256]], [[1, 16, 16, 16]])
