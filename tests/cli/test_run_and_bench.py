"""`edgegen run` and `edgegen bench` on a real bundle."""

import json
from pathlib import Path

import numpy as np
import pytest
import small_bundles
from PIL import Image
from typer.testing import CliRunner

import edgegen.runtime
from edgegen.bench import read_record
from edgegen.cli.main import app
from edgegen.errors import BundleError, DataError, MeasurementError, RecipeError

SIZE = (small_bundles.WIDTH, small_bundles.HEIGHT)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    return small_bundles.style(folder / "artifact").write(folder / "bundle")


def call(*arguments: object, fails: type[Exception] | None = None) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    if fails is not None:
        assert isinstance(done.exception, fails), done.output
        return str(done.exception)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def test_a_photo_of_the_right_size_goes_through_as_it_is(bundle: Path, tmp_path: Path) -> None:
    photo = np.random.default_rng(2).integers(0, 256, (*SIZE[::-1], 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    call("run", bundle, "--input", tmp_path / "photo.png", "--output", tmp_path / "out.png")
    with edgegen.runtime.open(bundle) as generator:
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), generator(photo))


def test_a_large_photo_is_brought_to_the_size_of_the_generator(bundle: Path, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), (200, 30, 30)).save(tmp_path / "photo.jpg")
    done = CliRunner().invoke(
        app, ["run", str(bundle), "--input", str(tmp_path / "photo.jpg"), "--output", str(tmp_path / "o.jpg")]
    )
    assert done.exit_code == 0 and "300x200: scaled and cut to 32x24" in done.stderr
    assert Image.open(tmp_path / "o.jpg").size == SIZE


def test_a_seed_draws_a_latent(tmp_path: Path) -> None:
    made = small_bundles.from_latent(tmp_path / "artifact").write(tmp_path / "bundle")
    call("run", made, "--seed", 7, "--output", tmp_path / "seed.png")
    with edgegen.runtime.open(made) as generator:
        assert np.array_equal(np.asarray(Image.open(tmp_path / "seed.png")), generator(seed=7))


def test_a_label_map_is_read_as_ids(tmp_path: Path) -> None:
    made = small_bundles.from_labels(tmp_path / "artifact").write(tmp_path / "bundle")
    ids = (np.arange(SIZE[0] * SIZE[1]) % 4).astype(np.uint8).reshape(SIZE[::-1])
    Image.fromarray(ids).save(tmp_path / "ids.png")
    call("run", made, "--input", tmp_path / "ids.png", "--output", tmp_path / "out.npy")
    with edgegen.runtime.open(made) as generator:
        assert np.array_equal(np.load(tmp_path / "out.npy"), generator(ids))


def test_what_cannot_be_run_is_one_sentence(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert "0 inputs given" in call("run", bundle, "--output", out, fails=DataError)
    assert "cannot be written" in call("run", bundle, "--output", tmp_path / "out.gif", fails=DataError)
    assert "broken.png" in call("run", bundle, "--input", tmp_path / "broken.png", "--output", out, fails=DataError)
    assert "does not exist" in call("run", tmp_path / "nowhere", "--output", out, fails=BundleError)
    assert not out.exists()


def test_bench_prints_a_table_and_writes_a_record(bundle: Path, tmp_path: Path) -> None:
    options = ("--threads", 1, "--min-runs", 64, "--min-seconds", 0.05, "--processes", 1)
    printed = call("bench", bundle, *options, "--out", tmp_path / "r.json")
    assert "small: openvino/f32" in printed and "sustained p90" in printed and "pass (3 stored" in printed
    assert read_record(tmp_path / "r.json").artifact.model_name == "small"


def test_bench_prints_nothing_but_json_if_asked(bundle: Path) -> None:
    printed = call("bench", bundle, "--threads", 1, "--min-runs", 3, "--min-seconds", 0.01, "--processes", 1, "--json")
    assert json.loads(printed)["schema"] == "edgegen.bench/1"


def test_bench_of_a_wrong_artifact_is_an_error_of_the_bundle(tmp_path: Path) -> None:
    small = small_bundles.style(tmp_path / "artifact")
    case = small.case(0, 45.0)
    wrong = small_bundles.BundleCase("00", case.inputs, (-case.outputs[0],), 45.0)
    out = small_bundles.write_bundle(tmp_path / "b", manifest=small.manifest(), artifacts=[small.artifact], cases=[wrong])
    assert "timings are withheld" in call("bench", out, "--min-runs", 3, "--min-seconds", 0, fails=BundleError)


def test_bench_against_an_earlier_record_compares_and_fails_only_for_a_regression(bundle: Path, tmp_path: Path) -> None:
    options = ("--threads", 1, "--min-runs", 64, "--min-seconds", 0.05, "--processes", 1, "--even-invalid")
    call("bench", bundle, *options, "--out", tmp_path / "a.json")
    printed = call("bench", bundle, *options, "--against", tmp_path / "a.json", "--max-regression", "900%")
    assert "95 % interval" in printed and "outcome" in printed
    assert "--max-regression needs a record" in call("bench", bundle, *options, "--max-regression", "5%", fails=RecipeError)


def test_records_of_other_conditions_are_not_compared(bundle: Path, tmp_path: Path) -> None:
    options = ("--min-runs", 64, "--min-seconds", 0.05, "--processes", 1)
    call("bench", bundle, *options, "--threads", 1, "--out", tmp_path / "a.json")
    call("bench", bundle, *options, "--threads", 1, "--period", "1ms", "--out", tmp_path / "b.json")
    said = call("compare", tmp_path / "a.json", tmp_path / "b.json", fails=MeasurementError)
    assert "method.mode: back-to-back and paced" in said
    printed = call("compare", tmp_path / "a.json", tmp_path / "a.json", "--even-invalid", "--json")
    assert json.loads(printed)["outcome"] == "no difference shown"


def test_bundles_beside_each_other_are_measured_in_turn_and_compared(bundle: Path, tmp_path: Path) -> None:
    options = ("--threads", 1, "--min-runs", 64, "--min-seconds", 0.05, "--processes", 2, "--even-invalid")
    printed = call("bench", bundle, *options, "--beside", bundle, "--out", tmp_path / "r.json")
    assert printed.count("sustained p90") == 2 and "outcome" in printed
    one, two = (read_record(tmp_path / name) for name in ("r.json", "r-beside.json"))
    assert one.comparable_key == two.comparable_key and len(two.latency_ms.per_process_p50) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--profile", "quik"), "--profile quik is unknown"),
        (("--affinity", "2-3"), "--affinity 2-3 is no list of cores"),
        (("--against", "r.json", "--max-regression", "5"), "--max-regression 5 is no percentage"),
        (("--period", "33"), "'33' is not a duration"),
    ],
)
def test_settings_of_bench_that_make_no_sense_are_refused(bundle: Path, options: tuple[str, ...], said: str) -> None:
    assert said in call("bench", bundle, *options, fails=RecipeError)
