"""Pages of one self-contained HTML file: what every report that usersim writes shares.

The look is `page.html.j2`, which a report's template extends; tables, figures and tiles are the macros of `parts.html.j2`.
Everything from the data or the configuration is escaped, since titles are written by strangers.
"""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import Any

import jinja2


def render(template: str, **values: Any) -> str:
    """A page.

    Args:
        template: name of a template beside this module that extends ``page.html.j2``.
        values: what it needs, ``title`` and ``lead`` among it.

    Returns:
        HTML that fetches nothing.
    """
    return _environment().get_template(template).render(**values)


def picture(title: str, caption: str, file: Path) -> dict[str, str]:
    """A figure for ``parts.figures``, with the PNG inside; its caption is also the text for those who cannot see it."""
    return {"title": title, "caption": caption, "png": base64.b64encode(file.read_bytes()).decode()}


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
