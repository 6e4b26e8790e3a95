"""Read a checkpoint file without running anything that it holds.

Safetensors are plain tables. Pickles go through `torch.load(weights_only=True)`, which knows tensors and plain containers
and refuses the rest; a pickle that would call anything else is refused by name, never executed.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import hashlib
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgegen.errors import CheckpointError, nearest

_LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")  # torch.save before 1.6 starts with this pickled number
_CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".pkl", ".bin")
_AS_STATE = "save the tensors alone, where the class is at hand: torch.save(generator.state_dict(), 'generator.pt')"
_AS_NEW = "download or copy it again; compare its size and SHA-256 with the source"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a file holds: nested containers of tensors on the CPU, and the SHA-256 of the file."""

    path: Path
    sha256: str
    content: Mapping[str, Any]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read `path` by what it holds, whatever its suffix. Raises CheckpointError when it is unsafe, damaged or something else."""
    _check_is_file(path)
    with path.open("rb") as file:
        start = file.read(16)
    if not start:
        raise CheckpointError(f"{path} is empty", hint=_AS_NEW)
    if start.startswith(b"PK"):
        content = _read_zip(path)
    elif start.startswith(_LEGACY_MAGIC):
        content = _load(path)
    elif start[8:9] == b"{" or (path.suffix == ".safetensors" and start[:1] != b"\x80"):
        content = _read_safetensors(path)
    elif start[:1] == b"\x80":
        raise _refused(path, _called(path.read_bytes()), otherwise="is a Python pickle that torch.save did not write")
    else:
        raise CheckpointError(f"{path} is not a checkpoint", hint="edgegen reads " + ", ".join(_CHECKPOINT_SUFFIXES))
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors", hint=_AS_STATE)
    return Checkpoint(path, _sha256(path), content)


def _check_is_file(path: Path) -> None:
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.suffix in _CHECKPOINT_SUFFIXES)
        raise CheckpointError(
            f"{path} is a folder, not a checkpoint",
            hint=f"name the file: {path / inside[0]}" if inside else "it holds no " + ", ".join(_CHECKPOINT_SUFFIXES),
        )
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
        raise CheckpointError(f"{path} does not exist", hint=nearest(path.name, siblings[:50]) if siblings else "check the path")


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {_first_line(error)}", hint=_AS_NEW) from error


def _read_zip(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            pickles = [name for name in names if re.fullmatch(r"[^/]*/?data\.pkl", name)]
    except Exception as error:  # zipfile raises BadZipFile, UnicodeDecodeError, NotImplementedError... for damaged files
        raise CheckpointError(f"{path} is truncated or damaged: {_first_line(error)}", hint=_AS_NEW) from error
    parts = {part for name in names for part in name.split("/")}
    if "constants.pkl" in parts or "code" in parts:
        raise CheckpointError(f"{path} is a TorchScript archive, which is a program and not a checkpoint", hint=_AS_STATE)
    if "archive_format" in parts or "models" in parts:
        raise CheckpointError(f"{path} is a torch.export archive (.pt2), which is a program and not a checkpoint", hint=_AS_STATE)
    if not pickles:
        raise CheckpointError(f"{path} is a zip archive without tensors", hint="name a file that torch.save or safetensors wrote")
    return _load(path)


def _load(path: Path) -> Any:
    """Load what torch.save wrote, with weights_only; a call that it refuses is named in the error."""
    try:
        with path.open("rb") as file, warnings.catch_warnings(), torch.serialization.safe_globals(_data_types()):
            warnings.simplefilter("ignore")  # torch warns about old formats that it reads well
            return torch.load(file, map_location="cpu", weights_only=True)  # given a path, torch would go by its suffix
    except MemoryError:
        raise
    except Exception as error:  # torch raises RuntimeError, EOFError, KeyError, UnpicklingError... for damaged files
        text = str(error)
        if "weights_only" in text:
            calls = re.findall(r"GLOBAL ([\w.]+)", text)
            raise _refused(path, calls, otherwise="holds objects that are not tensors") from error
        raise CheckpointError(f"{path} is truncated or damaged: {_first_line(error)}", hint=_AS_NEW) from error


def _data_types() -> list[Any]:
    """Return types beside torch's own that training scripts store next to the weights and that only hold data."""
    import numpy as np

    # np.float32(0).__reduce__() names the function that rebuilds a scalar; it has moved between modules with numpy 2
    rebuild = np.float32(0).__reduce__()[0]
    kinds = [np.dtypes.Float32DType, np.dtypes.Float64DType, np.dtypes.Int64DType]
    return [
        argparse.Namespace,
        collections.defaultdict,
        dict,
        np.dtype,
        *kinds,
        rebuild,
        (rebuild, "numpy.core.multiarray.scalar"),
    ]


def _refused(path: Path, calls: list[str], *, otherwise: str) -> CheckpointError:
    """Return the error for a pickle that was not executed; it names the first of the `calls` it would have made."""
    if not calls:
        return CheckpointError(f"{path} {otherwise}", hint=_AS_STATE)
    is_object = calls[0].rpartition(".")[2][:1] in "_ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # classes are capitalised, functions are not
    what = f"holds an object of class {calls[0]} and" if is_object else f"calls {calls[0]}: it"
    return CheckpointError(f"{path} {what} would run code when loaded, so it was refused and nothing was run", hint=_AS_STATE)


def _called(data: bytes) -> list[str]:
    """Return "module.name" of every global that a pickle names, in order, by reading its opcodes (nothing is executed)."""
    names: list[str] = []
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in ("GLOBAL", "INST"):
                names.append(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL" and len(strings) >= 2:
                names.append(f"{strings[-2]}.{strings[-1]}")
            elif isinstance(argument, str):
                strings.append(argument)
    except (ValueError, IndexError):  # a cut or damaged pickle: what was read so far is the answer
        pass
    return [name for name in names if name != "collections.OrderedDict"]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0]
