"""Fixtures of the distillation tests."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def drawn_from_a_seed() -> Iterator[None]:
    """Give every test the same random weights, and no other test a different state."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
