"""Fixtures that all tests share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_checkpoints() -> Path:
    """The folder of real trained generators that lies beside the repository."""
    return SHARED / "checkpoints"


@pytest.fixture(scope="session")
def shared_images() -> Path:
    """The folder of real photos that lies beside the repository."""
    return SHARED / "images"
