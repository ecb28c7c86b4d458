"""The same fitted people, told something else: other words in the prompt, or other texts of items."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from agents.text import clean
from experiments.fidelity.models import DecisionModels
from simulator.dataset import Catalog
from simulator.protocols import DecisionModel

TITLE_LENGTH = 80
"""Characters of a title that people are shown (`agents.text.item_name`)."""


def with_prompt(models: DecisionModels, name: str, **prompt: Any) -> DecisionModel:
    """A fitted model whose prompts are written otherwise; what it learned, it learned with the usual ones.

    Args:
        models: of the report. name: of the model. prompt: options of `agents.prompts.PromptConfig` to set.

    Raises:
        UsersimError: the model has no option ``prompt``, or the value of an option is not allowed.
    """
    own = models.section(name).options.get("prompt", {})
    return _as_fitted(models, name, models.unfitted(name, prompt={**own, **prompt}))


def with_catalog(models: DecisionModels, name: str, catalog: Catalog) -> DecisionModel:
    """A fitted model before which the items have other texts; item codes must mean the same items."""
    return _as_fitted(models, name, models.unfitted(name, catalog=catalog))


def with_texts(catalog: Catalog, texts: Mapping[int, str]) -> Catalog:
    """The catalog with a text after the titles of some items.

    A long title is shortened, so that the text is shown whole.

    Args:
        catalog: the items. texts: item code -> text, at most 77 characters.
    """
    titles = list(catalog.titles)
    for item, text in texts.items():
        titles[item] = f"{clean(titles[item] or '', TITLE_LENGTH - len(text) - 2)}. {text}".lstrip(". ")
    return Catalog(catalog.items.with_columns(title=pl.Series(titles, dtype=pl.String)), catalog.domain)


def _as_fitted(models: DecisionModels, name: str, unfitted: DecisionModel) -> DecisionModel:
    with tempfile.TemporaryDirectory() as folder:
        models[name].save(Path(folder))
        unfitted.load(Path(folder))
    return unfitted
