"""Session lengths of simulated users beside held-out ones."""

from __future__ import annotations

import numpy as np
import polars as pl

from agents.profiles import fit_profiles
from environments.datasets.splits import SplitConfig, split
from environments.datasets.tables import InteractionTables
from experiments.fidelity import session_lengths
from experiments.fidelity.baselines import Part
from simulator.seeds import Stream

DAY = 86_400


def part_of(folder, timed=True):
    """60 users with eight sessions; half have two interactions in each, half have twelve."""
    rows = [
        (f"u{user}", f"i{session * 12 + place}", 1_500_000_000 + DAY * session + 60 * place)
        for user in range(60)
        for session in range(8)
        for place in range(12 if user % 2 else 2)
    ]
    table = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    (table if timed else table.drop("timestamp")).write_csv(folder / "log.csv")
    data = InteractionTables(InteractionTables.Config(path=folder, interactions="log.csv")).load()
    divided = split(data, SplitConfig(method="random", test_share=0.3), Stream(1))
    train = divided.train
    return Part(train, {one.user: one for one in fit_profiles(train)}, divided.test), divided.test


def test_users_with_long_sessions_have_long_ones_and_differ_as_much_as_real_ones(tmp_path):
    found = session_lengths.compared(*part_of(tmp_path), Stream(3))
    assert not isinstance(found, str)
    ratio, rho = found
    assert 0.6 < ratio < 1.5
    assert rho > 0.8
    assert session_lengths.compared(*part_of(tmp_path), Stream(3)) == found


def test_sessions_are_thinned_as_the_split_thins_them(tmp_path):
    part, _ = part_of(tmp_path)
    user = next(one for one in part.profiles.values() if one.user_id == "u1")
    thin, whole = (session_lengths.seen_sessions(user.rhythm.visits, 400, kept, np.random.default_rng(5)) for kept in (0.3, 1.0))
    assert len(thin) == len(whole) == 400
    assert thin.min() >= 1
    assert 0.25 < thin.mean() / whole.mean() < 0.5


def test_what_the_data_does_not_have_is_null_with_the_reason(tmp_path):
    figures = {"variance_ratio": {"popularity": 1.0}, "variance_rho": {"popularity": 0.5}}
    session_lengths.add(figures, session_lengths.compared(*part_of(tmp_path, timed=False), Stream(3)))
    assert figures["variance_ratio"] == {"popularity": 1.0, "session_length": None, "share_chosen": None}
    assert figures["variance_notes"] == {"session_length": session_lengths.NO_TIMES, "share_chosen": session_lengths.NO_PAGES}
