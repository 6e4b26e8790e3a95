"""Files come in as they are on people's disks: several formats, damaged, or out to run code."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from edgegen.errors import CheckpointError
from edgegen.load.readers import read_checkpoint

_STATE = {"a.weight": torch.arange(64, dtype=torch.float32), "a.bias": torch.ones(3, dtype=torch.float16)}


def _write(path: Path, form: str) -> Path:
    match form:
        case "safetensors":
            save_file(_STATE, str(path))
        case "legacy":
            torch.save(_STATE, path, _use_new_zipfile_serialization=False)
        case _:
            torch.save(_STATE, path)
    return path


def test_tensors_that_were_saved_on_a_gpu_are_read_where_there_is_none(tmp_path: Path) -> None:
    torch.save(_STATE, tmp_path / "here.pt")
    with zipfile.ZipFile(tmp_path / "here.pt") as here, zipfile.ZipFile(tmp_path / "gpu.pt", "w") as gpu:
        for item in here.infolist():  # the place of a tensor is a word in its pickle
            content = here.read(item)
            gpu.writestr(item.filename, content.replace(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0"))
    assert b"cuda:0" in (tmp_path / "gpu.pt").read_bytes()
    content = read_checkpoint(tmp_path / "gpu.pt").content
    assert all(torch.equal(content[key], value) and content[key].device.type == "cpu" for key, value in _STATE.items())


@pytest.mark.parametrize("form", ["safetensors", "legacy", "zip"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".ckpt", ".pkl", ".bin", ""])
def test_a_checkpoint_is_read_by_what_it_holds_whatever_its_name(tmp_path: Path, form: str, suffix: str) -> None:
    checkpoint = read_checkpoint(_write(tmp_path / f"g{suffix}", form))
    assert sorted(checkpoint.content) == sorted(_STATE)
    assert all(torch.equal(checkpoint.content[key], value) for key, value in _STATE.items())
    assert len(checkpoint.sha256) == 64


class _Canary:
    """Creates a file when unpickled: if it is there, code has run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("how", ["torch.save", "legacy torch.save", "pickle", "pickle protocol 2", "inside a wrapper"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path, how: str) -> None:
    canary, path = tmp_path / "canary", tmp_path / "evil.pt"
    content = {**_STATE, "x": _Canary(canary)}
    match how:
        case "torch.save":
            torch.save(content, path)
        case "legacy torch.save":
            torch.save(content, path, _use_new_zipfile_serialization=False)
        case "pickle":
            path.write_bytes(pickle.dumps({"x": _Canary(canary)}))
        case "pickle protocol 2":
            path.write_bytes(pickle.dumps({"x": _Canary(canary)}, protocol=2))
        case _:
            torch.save({"state_dict": _STATE, "callbacks": [{"hook": _Canary(canary)}]}, path)
    with pytest.raises(CheckpointError, match=r"evil.pt calls posix.system: it would run code when loaded") as caught:
        read_checkpoint(path)
    assert not canary.exists()
    assert "state_dict()" in caught.value.hint


class _Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 3)


def test_a_pickled_module_is_refused_by_the_name_of_its_class(tmp_path: Path) -> None:
    torch.save(torch.nn.Conv2d(3, 3, 3), tmp_path / "m.pt")
    torch.save(_Net(), tmp_path / "own.pt")
    with pytest.raises(CheckpointError, match=r"holds an object of class torch.nn.modules.conv.Conv2d and would run code"):
        read_checkpoint(tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=r"class [\w.]*_Net and would run code"):
        read_checkpoint(tmp_path / "own.pt")


def test_programs_are_refused_with_the_way_to_save_tensors(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.ReLU()).save(str(tmp_path / "s.pt"))
    torch.export.save(torch.export.export(torch.nn.ReLU(), (torch.ones(2),)), tmp_path / "e.pt2")
    for name, said in (("s.pt", "TorchScript"), ("e.pt2", "torch.export")):
        with pytest.raises(CheckpointError, match=said) as caught:
            read_checkpoint(tmp_path / name)
        assert "torch.save(generator.state_dict()" in caught.value.hint


def test_settings_that_training_scripts_store_beside_the_weights_do_not_matter(tmp_path: Path) -> None:
    torch.save({"state_dict": _STATE, "args": argparse.Namespace(lr=0.1), "best": np.float64(0.5)}, tmp_path / "g.pt")
    assert read_checkpoint(tmp_path / "g.pt").content["args"].lr == 0.1


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("empty.pt", b"", "is empty"),
        ("text.pt", b"hello, this is a text file", "is not a checkpoint"),
        ("page.safetensors", b"<html>404 Not Found</html>", "is not a whole safetensors file"),
        ("list.pkl", pickle.dumps([1, 2, 3]), "is a Python pickle that torch.save did not write"),
        ("zip.pt", b"PK\x05\x06" + bytes(18), "is a zip archive without tensors"),
        ("pointer.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is not a checkpoint"),
    ],
)
def test_something_else_is_refused_in_one_sentence(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=said) as caught:
        read_checkpoint(tmp_path / name)
    assert name in caught.value.message and "\n" not in caught.value.message and caught.value.hint


def test_a_single_tensor_and_a_list_are_not_checkpoints(tmp_path: Path) -> None:
    for value in (torch.ones(3), [torch.ones(3)]):
        torch.save(value, tmp_path / "v.pt")
        with pytest.raises(CheckpointError, match="not a dictionary of tensors"):
            read_checkpoint(tmp_path / "v.pt")


def test_a_folder_and_a_missing_file_point_to_what_is_there(tmp_path: Path) -> None:
    _write(tmp_path / "generator.pt", "zip")
    with pytest.raises(CheckpointError, match="is a folder") as folder:
        read_checkpoint(tmp_path)
    assert "generator.pt" in folder.value.hint
    with pytest.raises(CheckpointError, match="does not exist") as missing:
        read_checkpoint(tmp_path / "generatr.pt")
    assert "generator.pt" in missing.value.hint


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(form=st.sampled_from(["safetensors", "legacy", "zip"]), share=st.floats(0.0, 0.999))
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, form: str, share: float) -> None:
    data = _write(tmp_path / "whole.pt", form).read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / "cut.pt")
    assert "cut.pt" in caught.value.message and "\n" not in caught.value.message


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(form=st.sampled_from(["safetensors", "legacy", "zip"]), where=st.floats(0.0, 0.999), value=st.integers(0, 255))
def test_a_flipped_byte_is_refused_or_harmless(tmp_path: Path, form: str, where: float, value: int) -> None:
    data = bytearray(_write(tmp_path / "whole.pt", form).read_bytes())
    data[int(len(data) * where)] = value
    (tmp_path / "flipped.pt").write_bytes(data)
    try:
        read_checkpoint(tmp_path / "flipped.pt")
    except CheckpointError as error:
        assert "\n" not in error.message
