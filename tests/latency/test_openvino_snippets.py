from edgegen.latency.openvino_snippets import openvino_model
from edgegen.latency.snippets import PassOver
from edgegen.latency.work import Pass


def test_tables_time_a_norm_in_the_form_that_exports_give_it() -> None:
    few, many = (openvino_model(PassOver(Pass(("norm", "tanh"), 16, 16), channels, False)) for channels in (3, 16))
    norms = [[list(op.get_output_shape(0)) for op in m.get_ops() if op.get_type_name() == "MVN"] for m in (few, many)]
    assert norms == [[[1, 3, 256]], [[1, 16, 16, 16]]]
