"""Pictures for documents: smaller, of fewer colours, and still with the hash of the numbers that they were drawn from.

python -m experiments.analysis.publish results/fidelity-ml-100k/RUN/fidelity/figures/distributions.png results/figures/NAME.png
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from experiments.console import note
from simulator.errors import ConfigError, UsersimError
from simulator.files import write_atomically

WIDTH, COLOURS = 1360, 128
"""Of a published picture at most: pixels across, colours."""


def publish(source: Path, target: Path) -> Path:
    """Writes a small copy of a PNG file that keeps the texts inside (`experiments.analysis.figure_style.write_figure`).

    Raises:
        ConfigError: the source is no PNG file that can be read.
    """
    try:
        picture = Image.open(source)
        texts = {name: text for name, text in picture.info.items() if isinstance(name, str) and isinstance(text, str)}
        plain = picture.convert("RGB")
    except OSError as error:
        raise ConfigError(f"{source} cannot be read as a picture: {error}.") from error
    if plain.width > WIDTH:
        plain = plain.resize((WIDTH, round(plain.height * WIDTH / plain.width)), Image.Resampling.LANCZOS)
    entries = PngInfo()
    for name, text in texts.items():
        entries.add_itxt(name, text)
    buffer = io.BytesIO()
    plain.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True, pnginfo=entries)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, buffer.getvalue())
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.analysis.publish", description=str(__doc__).splitlines()[0])
    parser.add_argument("source", type=Path, help="a figure that a command drew")
    parser.add_argument("target", type=Path, help="where the document looks for it")
    given = parser.parse_args(arguments)
    try:
        note(f"written: {publish(given.source, given.target)}")
    except UsersimError as error:
        note(f"publish: {error}")
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
