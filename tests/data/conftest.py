"""A folder of prompts with a tokenizer of ten words."""

from pathlib import Path

import pytest

WORDS = ("a", "red", "blue", "house", "car", "in", "the", "rain", "snow", "street")


@pytest.fixture
def prompt_folder(tmp_path: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: index + 1 for index, word in enumerate(WORDS)} | {"[UNK]": 0}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    lines = [f"a {colour} {thing} in the {weather}" for colour in WORDS[1:3] for thing in WORDS[3:5] for weather in WORDS[7:10]]
    (tmp_path / "prompts.txt").write_text("\n".join(lines) + "\n\n  \n" + lines[0])
    return tmp_path
