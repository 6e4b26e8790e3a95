"""The documentation is run: its commands in a copy of the repository, its Python too, and its links and sentences are checked."""

import ast
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "COMPATIBILITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
    *(ROOT / folder / "README.md" for folder in ("targets", "ops", "recipes", "calibration")),
]
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_NOT_REPEATED = re.compile(r"make [a-z -]+|\. \.venv/bin/activate")  # checked against the Makefile, not run inside the tests
_LIMIT_S = 1500


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    language: str
    text: str


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(document: Path) -> list[Block]:
    return [Block(*match) for match in _FENCE.findall(document.read_text(encoding="utf-8"))]


def commands(block: Block) -> list[str]:
    """Return the lines of a shell block with continuations joined."""
    return [line for line in block.text.replace("\\\n", " ").splitlines() if line.strip()]


def runnable(document: Path) -> list[Block]:
    """Return the blocks to run, without the lines that set up an environment or start the tests again."""
    found = []
    for block in blocks(document):
        if block.language in ("sh", "bash"):
            kept = [line for line in commands(block) if not _NOT_REPEATED.fullmatch(line.strip())]
            found.append(Block("sh", "\n".join(kept)))
        elif block.language == "python":
            found.append(block)
    return [block for block in found if block.text]


WITH_COMMANDS = [document for document in DOCUMENTS if runnable(document)]


def copy_of_the_repository(goal: Path) -> dict[str, str]:
    """Copy all files that are not ignored to `goal` and return an environment whose `edgegen` and `python` use that copy."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in names:
        if name and (ROOT / name).is_file():
            (goal / name).parent.mkdir(parents=True, exist_ok=True)
            (goal / name).write_bytes((ROOT / name).read_bytes())
    commands_folder = goal / "build" / "commands"
    commands_folder.mkdir(parents=True)
    for name, arguments in (("python", ""), ("edgegen", "-m edgegen.cli.main")):
        script = commands_folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    return {**os.environ, "PATH": f"{commands_folder}:{os.environ['PATH']}", "PYTHONPATH": str(goal)}


@pytest.mark.slow
@pytest.mark.parametrize("document", WITH_COMMANDS, ids=name_of)
def test_every_command_of_a_document_works_in_the_order_it_is_written(document: Path, tmp_path: Path) -> None:
    environment = copy_of_the_repository(tmp_path)
    for block in runnable(document):
        run = ["sh", "-e", "-c", block.text] if block.language == "sh" else [sys.executable, "-c", block.text]
        done = subprocess.run(
            run, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT_S
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_make_command_of_a_document_is_a_target_of_the_makefile(document: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([a-z -]+)(?:`|$)", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {word for words in named for word in words.split()} <= targets


def test_the_readme_starts_with_two_commands_for_a_fresh_machine() -> None:
    shell = [block.text.strip() for block in blocks(ROOT / "README.md") if block.language == "sh"]
    assert shell[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_files_and_headings_that_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    headings = {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}
    for goal in re.findall(r"\]\(([^)\s]+)\)", text):
        if goal.startswith("#"):
            assert goal[1:] in headings, goal
        elif "://" not in goal:
            assert (document.parent / goal.split("#")[0]).exists(), goal


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_document_has_no_placeholder_left(document: Path) -> None:
    assert not re.search(r"\b(FIGURES|TODO|TBD|FIXME|XXX)\b", document.read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_python_in_a_document_is_python(document: Path) -> None:
    for block in blocks(document):
        if block.language == "python":
            ast.parse(block.text)


def test_the_family_of_the_walk_through_recognises_its_checkpoint(tmp_path: Path) -> None:
    import torch

    from edgegen.graph import example_inputs, trace
    from edgegen.load.detect import find_family
    from edgegen.load.families import FAMILIES

    (block,) = [block for block in blocks(ROOT / "CONTRIBUTING.md") if block.language == "python"]
    made: dict[str, Any] = {"__name__": "brighten"}
    exec(compile(block.text, "brighten.py", "exec"), made)
    net = made["BrightenNet"](width=6).eval()
    state = {f"netG.{key}": value for key, value in net.state_dict().items()}
    found = find_family(tmp_path / "net.pt", state, (*FAMILIES, made["Brighten"]()))
    assert found.family.name == "brighten"
    (x,) = example_inputs(found.family.spec(found.match, (8, 8)))
    assert torch.equal(trace(found.family.build(found.view.state, found.match))(x), net(x))


def test_the_readme_lists_every_target_with_its_back_end_precisions_and_aliases() -> None:
    from edgegen.target import list_targets

    rows = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    titles = {"openvino": "OpenVINO", "litert": "LiteRT", "tensorrt": "TensorRT", "onnxruntime": "onnxruntime"}
    for target in list_targets():
        (row,) = [row for row in rows if re.match(rf"\| `{target.id}`[ |(]", row)]
        cells = [cell.strip() for cell in row.split("|")[1:-1]]
        assert cells[1] == titles[target.backend.value]
        assert cells[2] == ", ".join(precision.value for precision in target.precisions)
        assert re.findall(r"`([^`]+)`", cells[3]) == list(target.aliases)


def test_the_readme_lists_every_family_and_recipe() -> None:
    from edgegen.load.families import FAMILIES
    from edgegen.resources import resource_names

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in (*(family.name for family in FAMILIES), *resource_names("recipes")):
        assert f"`{name}`" in text, name


@pytest.mark.parametrize(
    "command", ["plan", "compress", "sweep", "inspect", "preflight", "run", "bench", "compare", "report", "targets", "cp"]
)
def test_options_named_in_the_readme_exist(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgegen.cli.main", command, "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "300", "NO_COLOR": "1"},
    )  # fmt: skip
    known = set(re.findall(r"--[a-z-]+", done.stdout))
    for block in blocks(ROOT / "README.md"):
        for line in commands(block):
            if line.strip().startswith(f"edgegen {command} "):
                assert set(re.findall(r"--[a-z-]+", line)) <= known, line


def test_the_sentences_of_the_errors_page_are_those_of_the_code() -> None:
    texts: list[str] = []
    for path in (ROOT / "edgegen").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
                texts.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    code = "\n".join(texts)
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    missing = []
    for sentence, hint in rows:
        if sentence.startswith(("code", "sentence", "---", "[", "(")) or sentence.isdigit():
            continue
        parts = re.split(r"…|\(.*?\)", f"{sentence}…{hint.removesuffix('?')}")  # brackets hold what is told here in other words
        missing += [part for part in parts if len(part.strip(" :.,'`")) > 6 and part.strip() not in code]
    assert missing == []
