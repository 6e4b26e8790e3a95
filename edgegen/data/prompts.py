"""Prompts: lines of text that become token ids by the tokenizer that lies beside them. Nobody vouches for either file."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import TYPE_CHECKING

from edgegen.data.gallery import Split, split
from edgegen.errors import DataError, require
from edgegen.recipe import AugmentConfig
from edgegen.spec import TensorSpec

if TYPE_CHECKING:
    import numpy as np
    import torch

PROMPTS, TOKENIZER = "prompts.txt", "tokenizer.json"
_MOST_BYTES = {PROMPTS: 16 << 20, TOKENIZER: 64 << 20}
_MOST_CHARACTERS = 2000
_FEWEST = 8


class Prompts:
    """Token ids of every different prompt: one row each, as long as the input `tensor` wants, padded with its padding id."""

    def __init__(self, folder: Path, tensor: TensorSpec) -> None:
        lines = _lines(folder / PROMPTS)
        content = _read(folder / TOKENIZER)
        self.files = [(PROMPTS, _digest(_read(folder / PROMPTS))), (TOKENIZER, _digest(content))]
        self.rows = _tokenized(lines, content, folder / TOKENIZER, tensor)

    def __len__(self) -> int:
        return len(self.rows)


class PromptSource:
    """Rows of `prompts`: some held out, the others to train and to calibrate with."""

    def __init__(self, prompts: Prompts, tensor: TensorSpec, *, seed: int, held_out: int) -> None:
        self._prompts, self._tensor, self._seed = prompts, tensor, seed
        self._split: Split = split(len(prompts), held_out)
        self.limit: int | None = len(self._split.held_out)
        self.training_count = len(self._split.train)

    def train(self, step: int, batch: int, augment: AugmentConfig) -> torch.Tensor:
        """Return (N, length): every prompt once per pass, in an order of its own."""
        import numpy as np
        import torch

        rows = []
        for index in range(step * batch, (step + 1) * batch):
            passes, within_pass = divmod(index, self.training_count)
            order = random.Random(f"{self._seed}:prompts:{passes}").sample(self._split.train, self.training_count)
            rows.append(self._row(order[within_pass]))
        return torch.from_numpy(np.concatenate(rows))

    def pooled(self, position: int, augment: AugmentConfig) -> np.ndarray:
        """Return the prompt at `position` of the pool, batch axis 1; text has no views."""
        return self._row(self._split.train[position // max(1, augment.views) % self.training_count])

    def held_out(self, position: int) -> np.ndarray:
        """Return a held-out prompt, batch axis 1."""
        return self._row(self._split.held_out[position])

    def calibration(self, position: int, count: int) -> np.ndarray:
        """Return prompt `position` of `count`, spread over all that are not held out, batch axis 1."""
        train = self._split.train
        return self._row(train[position * len(train) // count % len(train)])

    def _row(self, position: int) -> np.ndarray:
        return self._prompts.rows[position : position + 1].astype(self._tensor.dtype)


def open_prompts(folder: Path | None, tensor: TensorSpec) -> Prompts:
    """Return the prompts below `folder` for the input `tensor`; DataError naming the file that is not as it must be."""
    if folder is None:
        hint = f"give --data DIR with {PROMPTS} (one prompt per line) and {TOKENIZER}"
        raise DataError(f"the generator takes prompts ('{tensor.name}') and no folder was given", hint=hint)
    return Prompts(folder, tensor)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES[path.name]:
            raise DataError(f"{path} is larger than {_MOST_BYTES[path.name] >> 20} MiB", hint="is it the right file?")
        return path.read_bytes()
    except OSError as problem:
        raise DataError(
            f"{path} cannot be read: {problem.strerror}", hint=f"the folder needs {PROMPTS} and {TOKENIZER}"
        ) from problem


def _lines(path: Path) -> list[str]:
    """Return the different prompts in the order of the file."""
    try:
        text = _read(path).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise DataError(f"{path} is not UTF-8 text: byte {problem.start}", hint="save it as UTF-8") from problem
    lines = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    for number, line in enumerate(lines):
        if len(line) > _MOST_CHARACTERS:
            fact = f"{path}: prompt {number + 1} has {len(line)} characters, more than {_MOST_CHARACTERS}"
            raise DataError(fact, hint="write one prompt per line")
    if len(lines) < _FEWEST:
        raise DataError(f"{path} holds {len(lines)} different prompts, at least {_FEWEST} are needed", hint="add prompts")
    return lines


def _tokenized(lines: list[str], content: bytes, path: Path, tensor: TensorSpec) -> np.ndarray:
    import numpy as np

    tokenizers = require("tokenizers", extra="prompts")
    try:
        tokenizer = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
    except Exception as problem:  # the library raises plain Exception for whatever is wrong in the file
        raise DataError(f"{path} is not a tokenizer: {problem}", hint="save it with tokenizer.save(path)") from problem
    length = int(np.prod(tensor.shape))
    padding = (tokenizer.padding or {}).get("pad_id", 0)
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=padding)
    rows = np.array([one.ids for one in tokenizer.encode_batch(lines)], np.int64).reshape(len(lines), *tensor.shape)
    if tensor.high is not None and rows.max() > tensor.high:
        raise DataError(
            f"{path} gives token {rows.max()}, the generator knows {int(tensor.high) + 1}",
            hint="take the generator's own tokenizer",
        )
    return rows


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
