import pytest
import torch
from torch import nn

from edgegen.distill.checkpoint import read_checkpoint, run_key, write_checkpoint
from edgegen.errors import StorageError


class _Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_what_was_written_under_a_key_is_read_under_that_key_only(tmp_path):
    write_checkpoint(tmp_path / "new" / "state", "mine", {"step": 3, "weights": {"w": torch.arange(4.0)}})
    state = read_checkpoint(tmp_path / "new" / "state", "mine")
    assert state is not None and state["step"] == 3 and torch.equal(state["weights"]["w"], torch.arange(4.0))
    assert read_checkpoint(tmp_path / "new" / "state", "other") is None
    assert read_checkpoint(tmp_path / "absent", "mine") is None


def test_a_checkpoint_that_would_run_code_is_refused_and_the_code_does_not_run(tmp_path):
    torch.save({"format": "edgegen.training/1", "key": "mine", "state": _Canary(str(tmp_path / "ran"))}, tmp_path / "state")
    with pytest.raises(StorageError, match="damaged"):
        read_checkpoint(tmp_path / "state", "mine")
    assert not (tmp_path / "ran").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file/state: the training state cannot be written"):
        write_checkpoint(tmp_path / "file" / "state", "mine", {})


def test_the_key_changes_with_a_setting_a_weight_and_an_absent_module():
    layer = nn.Linear(2, 2)
    key = run_key({"student": layer, "critic": None}, {"steps": 3})
    assert key == run_key({"student": layer, "critic": None}, {"steps": 3})
    assert key != run_key({"student": layer, "critic": None}, {"steps": 4})
    assert key != run_key({"student": layer, "critic": layer}, {"steps": 3})
    with torch.no_grad():
        layer.weight[0, 0] += 1
    assert key != run_key({"student": layer, "critic": None}, {"steps": 3})
