"""Pages of one self-contained HTML file: what every report that usersim writes shares.

The look is `page.html.j2`, which a report's template extends; tables, figures and tiles are the macros of `parts.html.j2`.
Everything from the data or the configuration is escaped, since titles are written by strangers.
"""

from __future__ import annotations

import base64
import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

LIGHT = "--ink: #1c1e21; --soft: #5b6169; --line: #dcdfe3; --paper: #ffffff; --panel: #f5f6f8; --accent: #0068a3; --good: #b34700;"
DARK = "--ink: #e8eaed; --soft: #a9afb8; --line: #3a3f46; --paper: #16181b; --panel: #202328; --accent: #6cbcea; --good: #f0a36b;"
"""The colours, as custom properties of CSS: contrast of text at least 4.5 to 1 on paper and panel."""


def render(template: str, **values: Any) -> str:
    """A page.

    Args:
        template: name of a template beside this module that extends ``page.html.j2``.
        values: what it needs, ``title`` and ``lead`` among it.

    Returns:
        HTML that fetches nothing, and names no folder above the files that it tells of (`without_places`).
    """
    return without_places(_environment().get_template(template).render(**values))


def without_places(html: str) -> str:
    """Text without absolute paths: of each only the last name is left, behind an ellipsis.

    Pages are shared, and where a file lay on somebody's machine is nobody's business. Paths in quotation marks may hold spaces.
    """
    for pattern in _PLACES:
        html = pattern.sub("…/\\g<name>", html)
    return html


_QUOTES = "|".join(f"(?<={quote})" for quote in ("&#34;", "&#39;", "&quot;"))
_PLACES = (
    re.compile(rf"(?:{_QUOTES})/(?:[^&<\n/]+/)+(?P<name>[^&<\n/]*)(?=&(?:#34|#39|quot);)"),
    re.compile(rf"(?:{_QUOTES})(?:[A-Za-z]:)?[\\/]+(?:[^&<\n\\/]+[\\/]+)+(?P<name>[^&<\n\\/]*)(?=&(?:#34|#39|quot);)"),
    re.compile(rf"(?:(?<=[\s\"'=(`>,\[])|{_QUOTES})/(?:[\w.@+~%-]+/)+(?P<name>[\w.@+~%-]*)"),
    re.compile(rf"(?:(?<=[\s\"'=(`>,\[])|{_QUOTES})[A-Za-z]:[\\/]+(?:[\w.@+~%-]+[\\/]+)+(?P<name>[\w.@+~%-]*)"),
)


def picture(title: str, caption: str, file: Path) -> dict[str, str]:
    """A figure for ``parts.figures``, with the PNG inside; its caption is also the text for those who cannot see it."""
    return {"title": title, "caption": caption, "png": base64.b64encode(file.read_bytes()).decode()}


def part(name: str, *arguments: Any, **options: Any) -> str:
    """One macro of `parts.html.j2` as HTML, for places that are no page of ours; `style` is its look there."""
    return str(getattr(_environment().get_template("parts.html.j2").module, name)(*arguments, **options))


def style(scope: str, dark: str) -> str:
    """The look of `part` as CSS, valid inside one kind of element only.

    Args:
        scope: selector of the elements that hold parts. dark: selector of an ancestor that means a dark page.
    """
    css = (Path(__file__).parent / "parts.css").read_text(encoding="utf-8")
    return f"{scope} {{ {LIGHT} overflow-wrap: anywhere; {css} }}\n{dark} {scope} {{ {DARK} }}\n"


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    made = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.globals |= {"light": LIGHT, "dark": DARK}
    return made
