"""What a run leaves for training: who was shown what, in which order, what was chosen, and with which probability.

Nothing here reads the held-out part: a run knows the training part only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from agents.exposures import hide, items_by_user
from agents.profiles import fit_profiles
from experiments import build
from experiments.analysis.finished_run import FinishedRun
from experiments.analysis.ranking_metrics import auc_of
from experiments.config import ExperimentConfig
from experiments.fidelity.candidates import POSITIVE, nested_candidates
from experiments.fidelity.models import DecisionModels
from experiments.fidelity.pages import ask, first_pages
from experiments.sections import DecisionSection
from simulator.dataset import Dataset
from simulator.errors import RunError
from simulator.seeds import Stream

HIDDEN_SHARE = 0.2
"""Share of each person's training interactions that is hidden to see whether the simulated person would find them."""


def shown(run: Path, train: Dataset) -> pl.DataFrame:
    """Every item that a run showed, once per person, with the codes of the data set.

    Args:
        run: folder of a complete run. train: its training part; drawn people get the codes after the real ones.

    Returns:
        Columns user, item (Int32), rating (Float32 or null), timestamp (Int64), chosen, probability (of choosing it), place (of the
        item among all that the person was shown, from 0); sorted by person and place. An item that was shown again counts where it
        was chosen, else where it was shown first. Items that the person has in `train` are left out.
    """
    finished = FinishedRun(run)
    people = finished.people.select("user", "synthetic")
    real = train.users.select(pl.col("user_id").alias("user"), pl.col("user").alias("code"))
    drawn = people.filter("synthetic").sort("user")["user"]
    made = pl.DataFrame({"user": drawn, "code": np.arange(train.n_users, train.n_users + drawn.len(), dtype=np.int32)})
    codes = pl.concat([real.join(people.filter(~pl.col("synthetic")), on="user", how="semi"), made.cast({"user": pl.String})])
    items = train.catalog.items.select(pl.col("item").alias("item_code"), pl.col("item_id").alias("item"))
    rating = pl.col("rating").cast(pl.Float32) if finished.has_ratings else pl.lit(None, dtype=pl.Float32).alias("rating")
    rows = finished.impressions.sort("user", "session", "page", "position").select(
        "user", "item", rating, pl.col("time").alias("timestamp"), "chosen", pl.col("chosen_probability").alias("probability")
    )
    rows = rows.join(codes, on="user", maintain_order="left").join(items, on="item", maintain_order="left")
    rows = rows.with_columns(place=pl.int_range(pl.len()).over("user"))
    # the first of each pair after sorting is the one that counts
    rows = rows.sort("code", "item_code", pl.col("chosen").cast(pl.Int8).neg(), "place").unique(
        ("code", "item_code"), keep="first", maintain_order=True
    )
    known = train.interactions.select(pl.col("user").alias("code"), pl.col("item").alias("item_code"))
    return (
        rows.join(known, on=("code", "item_code"), how="anti", maintain_order="left")
        .sort("code", "place")
        .select(pl.col("code").alias("user"), pl.col("item_code").alias("item"), "rating", "timestamp", "chosen", "probability", "place")
    )


def evidence_lists(config: ExperimentConfig, run: Path, train: Dataset, n: int) -> pl.DataFrame | None:
    """The items of the whole catalog that the evidence of each simulated real person ranks first: no pages, no draws.

    The people are those of the run; a language model behind them is not asked, which would cost a prompt per item.

    Args:
        config: the experiment. run: its complete run. train: the training part. n: items per person at most.

    Returns:
        Columns user, item, place (from 0), sorted; None if the decision model has no method `preferences`.
    """
    options = {**config.decision.options, **({"language_model": False} if "language_model" in config.decision.options else {})}
    section = DecisionSection.model_validate({**config.decision.model_dump(), **options})
    quiet = config.model_copy(update={"decision": section})
    model = build.decisions(quiet, build.Blueprint(quiet, train.catalog, build.actions(train), train.rating_scale, run).context(None))
    ranks = getattr(model, "preferences", None)
    if ranks is None:
        return None
    build.restore(model, run / "decisions")
    simulated = set(FinishedRun(run).people.filter(~pl.col("synthetic"))["user"].to_list())
    rows = []
    for profile in fit_profiles(train):
        if profile.user_id in simulated:
            unseen = np.setdiff1d(np.arange(train.n_items, dtype=np.int32), profile.history)
            best = unseen[np.argsort(-ranks(profile, unseen), kind="stable")[:n]]
            rows.append(pl.DataFrame({"user": np.full(len(best), profile.user, dtype=np.int32), "item": best}))
    return pl.concat(rows).with_columns(place=pl.int_range(pl.len()).over("user"))


def fidelity_of_people(config: ExperimentConfig, run: Path, train: Dataset, folder: Path) -> pl.DataFrame:
    """How well each simulated real person tells their own hidden training interactions from others, measured on the training part.

    A share of the interactions is hidden once more, the decision model is made anew from the rest, and is asked about the hidden ones
    among random items and items of the same popularity (`experiments.fidelity.candidates`).

    Args:
        config: the experiment. run: its complete run. train: the training part. folder: for the language model's answers.

    Returns:
        Columns user, fidelity (area under the curve in [0, 1]; null if nothing of the person could be hidden), one row per person.
    """
    stream = Stream(config.seed).child("augmentation", "fidelity")
    names = FinishedRun(run).people.filter(~pl.col("synthetic"))["user"]
    people = train.users.filter(pl.col("user_id").is_in(names.implode()))["user"].to_numpy()
    order = "temporal" if config.dataset.split != "random" and train.has_times else "random"
    parts = hide(train, people, HIDDEN_SHARE, "temporal" if order == "temporal" else "random", stream.child("hide"))
    profiles = fit_profiles(parts.observed)
    by_user = {profile.user: profile for profile in profiles}
    known = items_by_user(train.interactions, train.n_users)
    found = nested_candidates(parts.hidden, known, parts.observed, people, stream.child("candidates"))
    models = DecisionModels(config, train, fit_profiles(train), folder, run)
    try:
        model = models.refitted(models.main, parts.observed, profiles)
        size = config.recommender.feed_config().page_size
        ids = train.users["user_id"].to_list()
        situations = [
            page
            for user, rows in found.items()
            for page in first_pages(by_user[user], rows["item"].to_numpy(), size, stream.child("ask", ids[user]))
        ]
        answers = [answer.choose for answer in ask(model, situations, build.actions(train))]
    finally:
        models.close()
    if not answers:
        raise RunError(f"of nobody in {run} a training interaction can be hidden, so there is no fidelity to filter by.")
    said = pl.concat(found.values()).with_columns(choose=pl.Series(np.concatenate(answers)))
    scores: dict[int, float] = {}
    for (user,), rows in said.filter(pl.col("choose").is_not_nan()).group_by("user", maintain_order=True):
        positive = (rows["kind"] == POSITIVE).to_numpy()
        scores[int(str(user))] = float(auc_of(rows["choose"].to_numpy()[None, :], positive[None, :])[0])
    values = [scores.get(user) for user in people.tolist()]
    return pl.DataFrame({"user": people, "fidelity": pl.Series(values, dtype=pl.Float64).fill_nan(None)})
