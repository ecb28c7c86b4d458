"""Notes beside items: who is asked, what stands there, and what is made of the answers."""

import numpy as np
import polars as pl

from environments.datasets.assembly import items_from_ids
from experiments import note_reading
from experiments.fidelity import notes
from simulator.dataset import Catalog
from simulator.seeds import Stream


def test_notes_are_made_of_what_is_written_about_items_and_an_irrelevant_one_of_another_item():
    items = items_from_ids(pl.Series(["a", "b"])).with_columns(description=pl.Series(["a heist", "a wedding"]))
    others = np.array([1, 0])
    told = {kind: list(notes._texts(Catalog(items), kind, others)) for kind in notes.KINDS}
    assert set(told["control"]) == {notes.CONTROL}
    assert all("a heist" in told[kind][0] for kind in ("persuasive", "discouraging"))
    assert "a wedding" in told["irrelevant"][0]
    assert len({told[kind][0] for kind in notes.KINDS}) == 4


def test_who_reads_right_is_found_to_and_who_is_put_off_by_any_text_is_not():
    owners = np.repeat(np.arange(40), 5)
    noise = Stream(1).generator().normal(scale=0.005, size=len(owners))
    reader = {"control": noise, "persuasive": noise + 0.1, "discouraging": noise - 0.1, "irrelevant": noise * 0.5}
    effects = notes._effects(reader, owners, Stream(2))
    assert note_reading.verdict(effects) is None
    put_off = notes._effects({kind: values - 0.05 for kind, values in reader.items()}, owners, Stream(2))
    assert "a neutral note" in (note_reading.verdict(put_off) or "")
