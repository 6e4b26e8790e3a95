"""Prompts become token ids by the tokenizer beside them; what is wrong with either file is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgegen.data import open_inputs
from edgegen.errors import DataError, RecipeError
from edgegen.recipe import AugmentConfig
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec


def spec(high: float | None = 20) -> ComponentSpec:
    tokens = TensorSpec("tokens", Kind.TOKENS, (6,), Layout.D, dtype="int64", high=high)
    return ComponentSpec("encoder", (tokens,), (TensorSpec("embedding", Kind.LATENT, (4,), Layout.D),))


@pytest.fixture
def folder(prompt_folder: Path) -> Path:
    return prompt_folder


def test_prompts_are_tokenised_padded_split_and_repeated_from_the_seed(folder: Path) -> None:
    inputs = open_inputs(spec(), folder, calibration="auto", seed=0, held_out=3)
    assert inputs.description == "12 prompts: 9 to train, 3 held out"
    held = {tuple(item[0].ravel()) for item in inputs.held_out(10)}
    used = {tuple(item[0].ravel()) for item in inputs.calibration()}
    assert (len(held), len(used)) == (3, 9) and not held & used
    (batch,) = inputs.train(0, 9, AugmentConfig())
    assert batch.shape == (9, 6) and {tuple(row.tolist()) for row in batch} == used
    again = open_inputs(spec(), folder, calibration="prompts", seed=0, held_out=3)
    assert again.digest == inputs.digest and np.array_equal(again.train(0, 9, AugmentConfig())[0], batch)


def test_another_prompt_makes_another_digest(folder: Path) -> None:
    before = open_inputs(spec(), folder, calibration="auto", seed=0, held_out=3).digest
    with open(folder / "prompts.txt", "a") as file:
        file.write("\nthe rain in the street")
    assert open_inputs(spec(), folder, calibration="auto", seed=0, held_out=3).digest != before


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("prompts.txt", b"one\ntwo\n", "2 different prompts, at least 8"),
        ("prompts.txt", b"caf\xe9\n" * 9, "is not UTF-8 text: byte 3"),
        ("prompts.txt", b"x" * 3000, "prompt 1 has 3000 characters"),
        ("tokenizer.json", b"{}", "is not a tokenizer"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(folder: Path, name: str, content: bytes, fact: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=fact) as caught:
        open_inputs(spec(), folder, calibration="auto", seed=0, held_out=3)
    assert name in caught.value.message and caught.value.hint


def test_missing_files_and_foreign_tokens_are_named(folder: Path) -> None:
    with pytest.raises(DataError, match="gives token 10, the generator knows 6"):
        open_inputs(spec(high=5), folder, calibration="auto", seed=0, held_out=3)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="tokenizer.json cannot be read"):
        open_inputs(spec(), folder, calibration="auto", seed=0, held_out=3)
    with pytest.raises(DataError, match="takes prompts .* no folder was given"):
        open_inputs(spec(), None, calibration="auto", seed=0, held_out=3)


def test_a_prompt_set_that_would_be_drawn_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('schema = "edgegen.calibration/1"\nname = "mine"\ntitle = "x"\nkind = "tokens"\nsource = "synthetic"\n')
    with pytest.raises(RecipeError, match="prompts are not drawn"):
        open_inputs(spec(), None, calibration=str(path), seed=0, held_out=3)
