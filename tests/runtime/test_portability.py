"""What goes to a device runs on Python 3.8 and needs nothing but numpy and a back end: held by reading the source."""

import ast
import sys
from pathlib import Path

import pytest

import edgegen.runtime

FOLDER = Path(edgegen.runtime.__file__).parent
FILES = sorted(FOLDER.rglob("*.py"))
BACKENDS = {"openvino", "ai_edge_litert", "tflite_runtime", "onnxruntime", "tensorrt", "cuda"}
BUILTIN_GENERICS = {"list", "dict", "tuple", "set", "frozenset", "type"}
pytestmark = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(FOLDER).as_posix())


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), feature_version=(3, 8))


def evaluated(node: ast.AST) -> list[ast.AST]:
    """All nodes below that run, annotations left out: those are text under `from __future__ import annotations`."""
    found = []
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                found += [child, *evaluated(child)]
    return found


def test_the_syntax_is_that_of_python_3_8(path: Path) -> None:
    tree(path)
    assert "from __future__ import annotations" in path.read_text()


def test_nothing_that_runs_is_newer_than_python_3_8(path: Path) -> None:
    for node in evaluated(tree(path)):
        where = f"{path.name}:{getattr(node, 'lineno', '?')}"
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            assert node.value.id not in BUILTIN_GENERICS, f"{where}: generic built-in types came with 3.9"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            sides = [side.id for side in (node.left, node.right) if isinstance(side, ast.Name)]
            assert not {"int", "str", "float", "bytes", *BUILTIN_GENERICS} & set(sides), f"{where}: X | Y came with 3.10"
            assert not any(isinstance(side, (ast.Dict, ast.DictComp)) for side in (node.left, node.right)), (
                f"{where}: dict | is 3.9"
            )
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"removeprefix", "removesuffix", "is_relative_to", "pairwise", "bit_count"}, where
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            keywords = {keyword.arg for keyword in node.keywords}
            assert not (node.func.id == "zip" and "strict" in keywords), f"{where}: zip(strict=) came with 3.10"
            assert not ("dataclass" in node.func.id and keywords & {"slots", "kw_only"}), where


def test_imports_are_the_standard_library_numpy_and_back_ends(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            top = name.split(".")[0]
            allowed = top in {"numpy", "__future__"} | BACKENDS | set(sys.stdlib_module_names) or name.startswith(
                "edgegen.runtime"
            )
            assert allowed, f"{path.name}:{node.lineno} imports {name}"


def test_back_ends_are_imported_only_where_they_are_needed(path: Path) -> None:
    for node in tree(path).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not {name.split(".")[0] for name in names} & BACKENDS
