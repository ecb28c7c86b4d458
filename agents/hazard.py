"""When people leave, as far as a log of what they chose tells: a hazard that rises with fatigue and falls with satisfaction.

How many pages a person sees is a setting (`agents.priors`), relative to how long their own sessions are. How the hazard moves
around that (`agents.staying`) is estimated from the training part's sessions, where the data has times: a page is stood for by a
block of as many interactions as the person in the middle has in a third of a session. MovieLens' sessions are sittings in which
people rate what they remember, so what is estimated is how soon they tire of that.

Source: Allison, "Discrete-time methods for the analysis of event histories", Sociological Methodology 13 (1982).
"""

from __future__ import annotations

import numpy as np
from scipy.special import logit

from agents.choice_model import Logit, fit_logit
from agents.rhythm import SESSION_GAP, split_sessions
from simulator.dataset import Dataset

NAMES = ("fatigue", "satisfaction")
MOST_PEOPLE = 2_000
LEAST_ITEMS = 10.0
"""A person's usual session counts at least so many items where fatigue is reckoned, as in `agents.user`."""


def fit_hazard(train: Dataset, people: np.ndarray) -> Logit | None:
    """Weights of fatigue and satisfaction on the log-odds of leaving, or None where the data has no times.

    Fatigue is ``1 - exp(-items before the block / the person's mean items per session)``, satisfaction the mean rating given in the
    session up to the end of the block minus the person's own mean; without ratings it is 0. Each block's offset is the log-odds of one
    over the person's mean number of blocks, completed by one session of the population.

    Args:
        train: the training part, rows sorted by person and time. people: user codes that are looked at.
    """
    if not train.has_times:
        return None
    rows = train.interactions
    wanted = np.isin(rows["user"].to_numpy(), people[:MOST_PEOPLE])
    if not wanted.any():
        return None
    users, times = rows["user"].to_numpy()[wanted], rows["timestamp"].to_numpy()[wanted]
    ratings = rows["rating"].to_numpy()[wanted].astype(np.float64) if train.has_ratings else np.zeros(len(users))
    sessions = split_sessions(users, times, SESSION_GAP)
    size = max(1, round(float(np.median(sessions.sizes)) / 3.0))
    blocks = np.ceil(sessions.sizes / size).astype(np.int64)
    n = int(users.max()) + 1
    visits = np.bincount(sessions.people, minlength=n)
    mean_items = (np.bincount(sessions.people, weights=sessions.sizes, minlength=n) + sessions.sizes.mean()) / (visits + 1)
    mean_blocks = (np.bincount(sessions.people, weights=blocks, minlength=n) + blocks.mean()) / (visits + 1)
    counts = np.bincount(users, minlength=n)
    own = np.divide(np.bincount(users, weights=ratings, minlength=n), counts, out=np.zeros(n), where=counts > 0)
    session = np.repeat(np.arange(len(blocks)), blocks)
    block = np.arange(len(session)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    person = sessions.people[session]
    before = block * size
    first = np.cumsum(sessions.sizes) - sessions.sizes
    running = np.concatenate([[0.0], np.cumsum(ratings - own[users])])
    after = np.minimum(before + size, sessions.sizes[session])
    satisfaction = (running[first[session] + after] - running[first[session]]) / after
    fatigue = 1.0 - np.exp(-before / np.maximum(LEAST_ITEMS, mean_items[person]))
    offset = logit(np.clip(1.0 / mean_blocks[person], 0.01, 0.95))
    return fit_logit(np.column_stack([fatigue, satisfaction]), block + 1 == blocks[session], person, NAMES, l2=1.0, offset=offset)
