"""One small bundle, for all tests that do not spoil it."""

from pathlib import Path

import pytest
import small_bundles


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> small_bundles.Small:
    return small_bundles.style(tmp_path_factory.mktemp("bench-style"))


@pytest.fixture(scope="session")
def bundle(small: small_bundles.Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write(tmp_path_factory.mktemp("bench") / "bundle")
