"""What holds for every source file, read from the files themselves."""

import ast
import collections
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = sorted((ROOT / "edgegen").rglob("*.py"))
PYTHON = [*PACKAGE, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "examples").rglob("*.py"))]
PRINTERS = {"edgegen/cli/console.py", "edgegen/runtime/__main__.py", "edgegen/export/build_engine.py"}
ON_DEVICES = [ROOT / "edgegen" / "__init__.py", *sorted((ROOT / "edgegen" / "runtime").rglob("*.py"))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call with the dotted name of what it calls."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_a_file_fits_a_sitting() -> None:
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PYTHON}
    assert {name: count for name, count in lines.items() if count > 400} == {}


def test_only_the_console_prints() -> None:
    printing = {name_of(path) for path in PACKAGE if any(name == "print" for name, _ in calls(path))}
    assert printing <= PRINTERS


def test_torch_reads_weights_only_and_pickle_reads_nothing() -> None:
    unsafe = []
    for path in PACKAGE:
        for name, call in calls(path):
            weights_only = any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords)
            if (name == "torch.load" and not weights_only) or name in {"pickle.load", "pickle.loads", "pickle.Unpickler"}:
                unsafe.append(f"{name_of(path)}:{call.lineno}: {name}")
    assert unsafe == []


def test_numpy_files_are_read_without_pickle() -> None:
    unsafe = []
    for path in PACKAGE:
        for name, call in calls(path):
            if name == "np.load" and any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in call.keywords):
                unsafe.append(f"{name_of(path)}:{call.lineno}")
    assert unsafe == []


def test_no_module_is_named_after_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}
    assert [name_of(path) for path in PYTHON if {*path.relative_to(ROOT).parts, path.stem} & vague] == []


def test_test_files_have_different_names_because_pytest_imports_them_by_name() -> None:
    counted = collections.Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in counted.items() if count > 1] == []


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    words = ("pytest.mark." + "skip", "pytest.mark." + "xfail", "pytest." + "skip(", "pytest." + "importorskip")
    texts = {name_of(path): path.read_text(encoding="utf-8") for path in PYTHON}
    assert [name for name, text in texts.items() if any(word in text for word in words)] == []


def test_the_environment_is_read_in_the_command_line_only() -> None:
    texts = {name_of(path): path.read_text(encoding="utf-8") for path in PACKAGE}
    reading = {name for name, text in texts.items() if "os.environ" in text or "os.getenv" in text}
    quiet_converter = {"edgegen/export/litert_convert.py"}  # a switch of the library it calls, set and put back
    assert {name for name in reading if not name.startswith("edgegen/cli/")} - quiet_converter == set()


@pytest.mark.parametrize("path", ON_DEVICES, ids=name_of)
def test_what_goes_to_devices_is_python_3_8(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 8))
    annotated = any(isinstance(node, ast.FunctionDef | ast.AnnAssign) for node in ast.walk(tree))
    assert not annotated or "from __future__ import annotations" in source  # `int | None` would be evaluated by 3.8


def test_no_file_tells_of_the_place_where_it_was_written() -> None:
    paths = ["/wo" + "rk/", "/ro" + "ot/", "/tmp/" + "bash", "in this ses" + "sion", "shared/fa" + "cts", "CONTR" + "ACT.md"]
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = []
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix in {".safetensors", ".png", ".npz", ".npy", ".pt", ".zip"} or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        found += [f"{name}: {word}" for word in paths if word in text]
    assert found == []
