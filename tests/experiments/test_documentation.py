"""The documents name files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "DECISIONS.md", "CHANGELOG.md", "results/README.md"])
def test_every_link_and_picture_of_a_document_leads_to_a_file(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in target]
    assert [target for target in targets if not ((ROOT / name).parent / target).exists()] == []


def test_the_readme_shows_a_picture_of_each_kind_and_each_is_small():
    pictures = re.findall(r"!\[[^\]]+\]\((results/figures/[^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert sorted(pictures) == sorted(f"results/figures/{file.name}" for file in (ROOT / "results/figures").iterdir())
    assert all((ROOT / picture).stat().st_size < 200_000 for picture in pictures)
