"""A table of layers measured in OpenVINO: every kind can be measured, and what is in the file is never measured again."""

import dataclasses
import json
from pathlib import Path

import pytest

from edgegen.latency import LayerWork, MeasuredTable, Pass
from edgegen.latency.snippets import BINARY, ELEMENTWISE
from edgegen.spec import Precision

WORK = LayerWork("conv", 16, 32, (3, 3), (1, 1), 1, 24, 40)
LARGE = LayerWork("conv", 64, 64, (3, 3), (1, 1), 1, 64, 64)
TRANSPOSED = LayerWork("transposed", 8, 4, (4, 4), (2, 2), 1, 10, 10)
MOVES = ["norm", "concat", "quantise", "shuffle 2 2", "shuffle 2 1", "unshuffle 2", "pad reflect 1 1 2 2", "pad edge 1 0 0 1",
         "pad constant 1 1 1 1", "crop 1 0 1 0", "upsample nearest 2 2", "upsample linear 2 2", "max_pool 3 3 2 2",
         "avg_pool 2 2 2 2"]  # fmt: skip


def table(folder: Path, precision: Precision = Precision.INT8, name: str = "table.json", **settings) -> MeasuredTable:
    return MeasuredTable(folder / name, precision, threads=1, **settings)


@pytest.mark.parametrize("precision", [Precision.F32, Precision.INT8])
@pytest.mark.parametrize(
    "work",
    [
        pytest.param(dataclasses.replace(WORK, stride=(2, 2)), id="stride"),
        pytest.param(dataclasses.replace(WORK, groups=16), id="grouped"),
        pytest.param(TRANSPOSED, id="transposed"),
        pytest.param(dataclasses.replace(TRANSPOSED, groups=2, signed=True), id="grouped transposed"),
        pytest.param(LayerWork("linear", 64, 32, (1, 1), (1, 1), 1, 1, 1, ("relu",), to_int8=True), id="linear"),
        pytest.param(LayerWork("conv", 4, 4, (1, 1), (1, 1), 1, 1, 1), id="one pixel"),
        pytest.param(LayerWork("input", 10, 10, (1, 1), (1, 1), 1, 1, 1), id="latent"),
        pytest.param(LayerWork("input", 3, 3, (1, 1), (1, 1), 1, 16, 16), id="picture in"),
        pytest.param(LayerWork("output", 3, 3, (1, 1), (1, 1), 1, 16, 16), id="picture out"),
        pytest.param(LayerWork("norm", 8, 8, (1, 1), (1, 1), 1, 16, 16), id="norm"),
    ],
)
def test_every_kind_of_layer_can_be_measured(tmp_path: Path, work: LayerWork, precision: Precision) -> None:
    assert table(tmp_path, precision).seconds(work) > 0


def test_every_operation_can_be_measured_in_a_layer_and_after_it(tmp_path: Path) -> None:
    fused = [dataclasses.replace(WORK, fused=(op,), to_int8=True) for op in (*ELEMENTWISE, *BINARY)]
    passes = [Pass((op,), 24, 40) for op in (*ELEMENTWISE, *BINARY, *MOVES)]
    passes += [Pass((op, "relu"), 24, 40, (1, 2), from_int8=True, to_int8=True) for op in MOVES]
    made = table(tmp_path)
    made.measure([*fused, *(dataclasses.replace(WORK, passes=(item,)) for item in passes)])
    assert made.facts()["measured_now"] > len(fused) + len(passes)


def test_int8_is_measured_in_int8(tmp_path: Path) -> None:
    floats, ints = (table(tmp_path, precision).seconds(LARGE) for precision in (Precision.F32, Precision.INT8))
    assert ints < 0.8 * floats  # 2 to 4 times on processors with VNNI, 1.3 without


def test_twice_the_channels_cost_more(tmp_path: Path) -> None:
    made = table(tmp_path)
    assert made.seconds(LARGE) > 1.5 * made.seconds(dataclasses.replace(LARGE, inputs=32, outputs=32))


def test_a_norm_costs_the_same_in_int8_because_it_stays_in_float(tmp_path: Path) -> None:
    norm = LayerWork("norm", 16, 16, (1, 1), (1, 1), 1, 32, 32)
    expected = table(tmp_path, Precision.F32).seconds(norm)
    assert table(tmp_path, Precision.INT8).seconds(norm) == expected


def test_passes_are_added_to_their_layer(tmp_path: Path) -> None:
    made, item = table(tmp_path), Pass(("norm", "relu"), 64, 64, to_int8=True)
    one, two = (made.seconds(dataclasses.replace(LARGE, passes=(item,) * count)) for count in (1, 2))
    assert one > made.seconds(LARGE) and two - one == pytest.approx(one - made.seconds(LARGE))


def test_a_transposed_convolution_costs_what_its_faster_form_costs(tmp_path: Path) -> None:
    from edgegen.latency.work import sub_pixel

    made, work = table(tmp_path), LayerWork("transposed", 32, 16, (4, 4), (2, 2), 1, 64, 64)
    form = sub_pixel(work)
    assert form is not None and made.seconds(work) <= made.seconds(form)


def test_a_run_that_goes_on_from_the_file_measures_nothing_again_and_estimates_the_same(tmp_path: Path) -> None:
    first = table(tmp_path)
    before = [first.seconds(WORK), first.seconds(dataclasses.replace(WORK, inputs=8)), first.seconds(LARGE)]
    again = table(tmp_path)  # nothing was saved by hand: as after a kill
    assert [again.seconds(w) for w in (WORK, dataclasses.replace(WORK, inputs=8), LARGE)] == before
    assert again.facts()["measured_now"] == 0


def test_an_estimate_does_not_depend_on_what_is_measured_later(tmp_path: Path) -> None:
    made = table(tmp_path)
    narrow = made.seconds(dataclasses.replace(WORK, outputs=16))
    made.measure([WORK, dataclasses.replace(WORK, outputs=24)])
    assert made.seconds(dataclasses.replace(WORK, outputs=16)) == narrow
    assert table(tmp_path).seconds(dataclasses.replace(WORK, outputs=16)) == narrow


def test_what_the_file_says_is_believed(tmp_path: Path) -> None:
    table(tmp_path).seconds(WORK)
    path = tmp_path / "table.json"
    document = json.loads(path.read_text())
    document["seconds"] = {key: 1.0 if "16>32" in key else value for key, value in document["seconds"].items()}
    path.write_text(json.dumps(document))
    assert table(tmp_path).seconds(WORK) == pytest.approx(1.0, abs=0.01)


def test_a_second_run_takes_what_the_cache_has_and_keeps_its_own_copy(tmp_path: Path) -> None:
    first = table(tmp_path, name="first.json", cache=tmp_path / "cache")
    expected = first.seconds(WORK)
    second = table(tmp_path, name="second.json", cache=tmp_path / "cache")
    assert second.seconds(WORK) == expected and second.facts()["measured_now"] == 0
    assert table(tmp_path, name="second.json").seconds(WORK) == expected  # without the cache


def test_a_table_of_its_own_is_believed_before_the_cache(tmp_path: Path) -> None:
    own = table(tmp_path, name="own.json").seconds(WORK)
    other = table(tmp_path, name="other.json", cache=tmp_path / "cache").seconds(WORK)
    again = table(tmp_path, name="own.json", cache=tmp_path / "cache").seconds(WORK)
    assert again == own and again != other


def test_another_number_of_threads_is_another_machine(tmp_path: Path) -> None:
    table(tmp_path).seconds(WORK)
    other = MeasuredTable(tmp_path / "table.json", Precision.INT8, threads=2)
    assert other.facts()["lines"] == 0


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"format": "something/9", "seconds": {}})])
def test_a_file_that_is_no_table_is_measured_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.json").write_text(text)
    assert table(tmp_path).seconds(WORK) > 0


def test_nothing_but_the_table_is_left_in_its_folder(tmp_path: Path) -> None:
    made = table(tmp_path)
    made.measure([WORK, TRANSPOSED])
    made.save()
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]


def test_a_whole_generator_is_measured_once_and_found_again(tmp_path: Path) -> None:
    works = (WORK, LARGE)
    assert table(tmp_path).whole(works, lambda: 0.25) == 0.25
    assert table(tmp_path).whole(works, lambda: 0.75) == 0.25
    assert table(tmp_path).whole((WORK,), lambda: 0.75) == 0.75
