from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Copies of public data sets beside the repository; tests that need them skip where they are absent."""
    folder = Path(__file__).resolve().parents[1].parent / "shared/data"
    if not folder.is_dir():
        pytest.skip(f"there is no folder {folder} with copies of public data sets")
    return folder
