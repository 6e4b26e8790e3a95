"""Small bundles for the runtime's tests, converted once."""

from pathlib import Path

import pytest
import small_bundles


@pytest.fixture(scope="session")
def style(tmp_path_factory: pytest.TempPathFactory) -> small_bundles.Small:
    return small_bundles.style(tmp_path_factory.mktemp("style"))


@pytest.fixture(scope="session")
def from_latent(tmp_path_factory: pytest.TempPathFactory) -> small_bundles.Small:
    return small_bundles.from_latent(tmp_path_factory.mktemp("latent"))


@pytest.fixture(scope="session")
def from_labels(tmp_path_factory: pytest.TempPathFactory) -> small_bundles.Small:
    return small_bundles.from_labels(tmp_path_factory.mktemp("labels"))


@pytest.fixture()
def style_bundle(style: small_bundles.Small, tmp_path: Path) -> Path:
    """A bundle that a test may spoil."""
    return style.write(tmp_path / "bundle")
