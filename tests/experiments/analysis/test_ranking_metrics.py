"""Every value of the reference file that holds inputs and expected values from six libraries' own tests, and hand-worked cases."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.analysis import list_metrics as lists
from experiments.analysis import ranking_metrics as metrics

EXACT = {"rtol": 0, "atol": 1e-9}
REFERENCE = Path(__file__).resolve().parents[2] / "reference"


@pytest.fixture(scope="module")
def vectors():
    return json.loads((REFERENCE / "metric_vectors.json").read_text(encoding="utf-8"))


def world(reco, interactions, users):
    """Padded lists, hits and counts of (user, item, rank) rows and (user, item) rows, for the given users."""
    k = max(rank for _, _, rank in reco)
    ranked = np.full((len(users), k), -1)
    for user, item, rank in reco:
        if user in users:
            ranked[users.index(user), rank - 1] = item
    relevant = [np.array([item for owner, item in interactions if owner == user]) for user in users]
    return ranked, metrics.hit_matrix(ranked, relevant), np.array([len(items) for items in relevant])


def named(reco, items):
    """Lists of item names, in order of user name, as padded codes."""
    return metrics.padded([np.array([items.index(item) for item in reco[user]]) for user in sorted(reco)], 3)


def item_counts(rows, items):
    return np.bincount([items.index(item) for _, item in rows], minlength=len(items))


class TestRecBole:
    @pytest.mark.parametrize("k", [1, 2, 3])
    def test_metrics_at_k(self, vectors, k):
        v = vectors["recbole"]
        hits, relevant = np.array(v["pos_idx"], dtype=bool), np.array(v["pos_len"])
        ours = {
            "hit": metrics.hit_rate(hits, k),
            "mrr": metrics.reciprocal_rank(hits, k),
            "recall": metrics.recall(hits, relevant, k),
            "precision": metrics.precision(hits, k),
            "map (sum prec / min(k,len))": metrics.average_precision(hits, relevant, k, "min"),
            "ndcg (ideal = min(k,len))": metrics.ndcg(hits, metrics.ones_below(relevant), k),
        }
        for name, values in ours.items():
            np.testing.assert_allclose(values, np.array(v[name])[:, k - 1], **EXACT)

    @pytest.mark.parametrize("k", [1, 2, 3])
    def test_popularity_at_k(self, vectors, k):
        v = vectors["recbole"]
        ranked = np.array(v["item_matrix"])
        popularity = np.zeros(v["num_items"])
        for item, count in v["item_count"].items():
            popularity[int(item)] = count
        np.testing.assert_allclose(lists.average_popularity(ranked, popularity, k), np.array(v["averagepopularity"])[:, k - 1], **EXACT)
        counted = np.array([int(item) for item in v["item_count"]])
        tail = np.zeros(v["num_items"], dtype=bool)
        tail[counted] = lists.tail_items(popularity[counted], 0.1)
        np.testing.assert_allclose(lists.tail_share(ranked, tail, k), np.array(v["tailpercentage"])[:, k - 1], **EXACT)

    def test_the_whole_system(self, vectors):
        v = vectors["recbole"]
        ranked, n = np.array(v["item_matrix"]), v["num_items"]
        counts = lists.shown_counts(ranked, 3, n)
        assert lists.coverage(ranked, 3, n) == pytest.approx(v["itemcoverage"], abs=1e-9)
        assert lists.gini(counts) == pytest.approx(v["giniindex"], abs=1e-9)
        key = next(key for key in v if key.startswith("shannonentropy"))
        assert lists.entropy(counts, over="mean") == pytest.approx(v[key], abs=1e-9)

    def test_grouped_auc(self, vectors):
        v = vectors["recbole"]["gauc"]
        relevant = np.array(v["pos_len"])
        values = metrics.auc(np.array(v["pos_rank_sum"]), relevant, np.array(v["user_len"]))
        assert metrics.weighted_mean(values, relevant) == pytest.approx(v["expected"], abs=1e-9)


class TestRecTools:
    def test_classification(self, vectors):
        v = vectors["rectools"]["classification"]
        _, hits, relevant = world(v["reco (user,item,rank)"], v["interactions"], v["users"])
        k = v["k"]
        ours = {
            "precision": metrics.precision(hits, k),
            "r_precision": metrics.recall(hits, relevant, k, "min"),
            "recall": metrics.recall(hits, relevant, k),
            "f1beta(beta=sqrt2)": metrics.f_score(hits, relevant, k, np.sqrt(2)),
            "accuracy(catalog 0..9)": metrics.accuracy(hits, relevant, k, 10),
            "mcc": metrics.matthews_correlation(hits, relevant, k, 10),
        }
        for name, values in ours.items():
            np.testing.assert_allclose(values, v[name], **EXACT)

    @pytest.mark.parametrize("k", [1, 3])
    @pytest.mark.parametrize(("label", "normaliser"), [("|rel|", "relevant"), ("k", "k")])
    def test_average_precision(self, vectors, k, label, normaliser):
        v = vectors["rectools"]["map"]
        _, hits, relevant = world(v["reco"], v["interactions"], v["users"])
        np.testing.assert_allclose(metrics.average_precision(hits, relevant, k, normaliser), v[f"k={k} / {label}"], **EXACT)

    @pytest.mark.parametrize(("label", "normaliser"), [("ideal k", "k"), ("achievable", "min")])
    def test_ndcg(self, vectors, label, normaliser):
        v = vectors["rectools"]["ndcg"]
        _, hits, relevant = world(v["reco"], v["interactions"], v["users"])
        values = metrics.ndcg(hits, metrics.ones_below(relevant), 3, normaliser=normaliser)
        np.testing.assert_allclose(values, v[f"k=3 {label}"], **EXACT)

    @pytest.mark.parametrize("k", [1, 3])
    def test_reciprocal_rank(self, vectors, k):
        v = vectors["rectools"]["mrr"]
        _, hits, _ = world(v["reco"], v["interactions"], [1, 2, 3, 4, 5])
        np.testing.assert_allclose(metrics.reciprocal_rank(hits, k), v[f"k={k}"], **EXACT)

    @pytest.mark.parametrize("k", [1, 2, 3])
    def test_intra_list_diversity(self, vectors, k):
        v = vectors["rectools"]["ild_hamming"]
        items = ["i1", "i2", "i3", "i4"]
        distance = np.full((4, 4), np.nan)  # i4 has no features
        distance[:3, :3] = lists.hamming_distance(np.array([v["features"][item] for item in items[:3]]))
        values = lists.intra_list_diversity(named(v["reco"], items), distance, k)
        np.testing.assert_allclose(values, np.array(v[f"k={k}"], dtype=float), **EXACT)

    @pytest.mark.parametrize("k", [1, 2])
    def test_mean_inverse_user_frequency(self, vectors, k):
        v = vectors["rectools"]["mean_inv_user_freq"]
        items = ["i1", "i2", "i3"]
        surprise = lists.self_information(item_counts(v["train"], items), len({user for user, _ in v["train"]}))
        np.testing.assert_allclose(lists.novelty(named(v["reco"], items), surprise, k), v[f"k={k}"], **EXACT)

    @pytest.mark.parametrize(("block", "k"), [("serendipity", 1), ("serendipity", 2), *(("serendipity_ties", k) for k in (1, 2, 3))])
    def test_serendipity(self, vectors, block, k):
        v = vectors["rectools"][block]
        ranked = named(v["reco"], v["catalog"])
        relevant = [np.array([v["catalog"].index(item) for owner, item in v["test"] if owner == user]) for user in sorted(v["reco"])]
        surprise = lists.better_than_popularity(ranked, item_counts(v["train"], v["catalog"]), 3)
        np.testing.assert_allclose(lists.serendipity(metrics.hit_matrix(ranked, relevant), surprise, k), v[f"k={k}"], **EXACT)

    @pytest.mark.parametrize(("k", "normalised"), [(1, False), (3, False), (3, True)])
    def test_average_popularity(self, vectors, k, normalised):
        v = vectors["rectools"]["avg_rec_popularity"]
        items = ["i1", "i2", "i3"]
        values = lists.average_popularity(named(v["reco"], items), item_counts(v["train"], items), k, normalised=normalised)
        np.testing.assert_allclose(values, v[f"k={k}" + " normalized" * normalised], **EXACT)

    def test_catalog_coverage(self, vectors):
        v = vectors["rectools"]["catalog_coverage"]
        # two items share a rank there, so each row is a list of its own
        rows = v["reco (user,item,rank)"]
        ranked = np.full((len(rows), 3), -1)
        for row, (_, item, rank) in enumerate(rows):
            ranked[row, rank - 1] = item
        assert lists.coverage(ranked, 2, v["catalog_size"]) == pytest.approx(v["k=2"], abs=1e-9)


class TestMicrosoft:
    """Values are given to five or six decimals, some of them cut and not rounded."""

    def test_ratings(self, vectors):
        v = vectors["ms_recommenders"]
        true = dict(zip(zip(v["true"]["user"], v["true"]["item"], strict=True), v["true"]["rating"], strict=True))
        guesses = zip(zip(v["pred"]["user"], v["pred"]["item"], strict=True), v["pred"]["prediction"], strict=True)
        pairs = np.array([(true[key], guess) for key, guess in guesses if key in true], dtype=float)
        for name, ours in (
            ("rmse", metrics.rmse),
            ("mae", metrics.mae),
            ("rsquared", metrics.r_squared),
            ("exp_var", metrics.explained_variance),
        ):
            assert ours(pairs[:, 0], pairs[:, 1]) == pytest.approx(v["expected"][name], abs=1e-5)

    def test_rankings(self, vectors):
        v = vectors["ms_recommenders"]
        rows = sorted(zip(v["pred"]["user"], v["pred"]["item"], v["pred"]["prediction"], strict=True), key=lambda row: -row[2])
        ranked = metrics.padded([np.array([item for owner, item, _ in rows if owner == user]) for user in (1, 2, 3)], 10)
        true = list(zip(v["true"]["user"], v["true"]["item"], strict=True))
        relevant = [np.array([item for owner, item in true if owner == user]) for user in (1, 2, 3)]
        hits, counts = metrics.hit_matrix(ranked, relevant), np.array([len(items) for items in relevant])
        ours = {
            "ndcg@10 binary": metrics.ndcg(hits, metrics.ones_below(counts), 10),
            "map (sum prec/|rel|)": metrics.average_precision(hits, counts, 10, "relevant"),
            "precision@10": metrics.precision(hits, 10),
            "recall@10": metrics.recall(hits, counts, 10),
        }
        for name, values in ours.items():
            assert metrics.mean(values) == pytest.approx(v["expected"][name], abs=1e-5)

    def test_diversity(self, vectors):
        v, expected = vectors["ms_recommenders"]["diversity_data"], vectors["ms_recommenders"]["diversity_expected"]
        reco = v["reco (user,item,relevance)"]
        ranked = metrics.padded([np.array([item - 1 for owner, item, _ in reco if owner == user]) for user in (1, 2, 3)], 2)
        hits = np.array([good for _, _, good in reco], dtype=float).reshape(3, 2)
        owned = np.zeros((3, 5))
        for user, item in v["train"]:
            owned[user - 1, item - 1] = 1
        near = {"rtol": 0, "atol": 1.1e-5}
        counts = lists.shown_counts(ranked, 2, 5)
        known = counts[owned.any(axis=0)]
        assert np.count_nonzero(known) / len(known) == lists.coverage(ranked, 2, 5) == expected["catalog_coverage"]
        key = next(key for key in expected if key.startswith("distributional"))
        assert lists.entropy(counts, base=2) == pytest.approx(expected[key], abs=1e-4)
        surprise = lists.self_information(owned.sum(axis=0), owned.sum())
        np.testing.assert_allclose(surprise, next(value for name, value in expected.items() if name.startswith("historical")), **near)
        assert metrics.mean(lists.novelty(ranked, surprise, 2)) == pytest.approx(expected["novelty"], abs=1e-5)
        features = np.array([v["features"][str(item)] for item in range(1, 6)])
        for kind, similarity in (
            ("cooccurrence", lists.cooccurrence_similarity(owned)),
            ("item_feature_vector", lists.cosine_similarity(features)),
        ):
            spread = 1.0 - lists.intra_list_diversity(ranked, similarity, 2)
            surprising = lists.unexpectedness(ranked, owned, similarity, 2)
            whole = lists.serendipity(hits, surprising, 2)
            near = {"rtol": 0, "atol": 4e-5}  # one of the values is given to four decimals
            np.testing.assert_allclose(
                whole, expected[f"user_serendipity {kind}" if kind != "cooccurrence" else "user_serendipity"], **near
            )
            whole_key, spread_key = ("serendipity", "diversity") if kind == "cooccurrence" else (f"serendipity {kind}", f"diversity {kind}")
            np.testing.assert_allclose([whole.mean(), spread.mean()], [expected[whole_key], expected[spread_key]], **near)
            if kind == "cooccurrence":
                np.testing.assert_allclose((surprising * hits).ravel(), expected["user_item_serendipity cooccurrence"], **near)
                np.testing.assert_allclose(spread, expected["user_diversity cooccurrence"], **near)


def test_recpack(vectors):
    v = vectors["recpack"]
    rows = sorted(v["pred (user,item,score)"], key=lambda row: -row[2])
    ranked = metrics.padded([np.array([item for owner, item, _ in rows if owner == user]) for user in (0, 2)], 3)
    relevant = [np.array([item for owner, item in v["true"] if owner == user]) for user in (0, 2)]
    hits, counts = metrics.hit_matrix(ranked, relevant), np.array([len(items) for items in relevant])
    popularity = np.bincount([item for _, item in v["true"]], minlength=v["num_items"])
    ours = {
        "coverage@2": lists.coverage(ranked, 2, v["num_items"]),
        "precision@2": metrics.mean(metrics.precision(hits, 2)),
        "recall@2": metrics.mean(metrics.recall(hits, counts, 2)),
        "recall@1": metrics.mean(metrics.recall(hits, counts, 1)),
        "calibrated_recall@2": metrics.mean(metrics.recall(hits, counts, 2, "min")),
        "calibrated_recall@1": metrics.mean(metrics.recall(hits, counts, 1, "min")),
        "reciprocal_rank@2": metrics.mean(metrics.reciprocal_rank(hits, 2)),
        "hits@2 (mean count)": metrics.mean(metrics.hit_count(hits, 2)),
        "ips_hitrate@2": metrics.mean(metrics.inverse_propensity_hits(hits, ranked, popularity, 2)),
    }
    assert ours == pytest.approx(v["expected"], abs=1e-9)


def test_ranx(vectors):
    v = vectors["ranx"]
    queries = sorted(v["qrels"])
    gains = np.array([[v["qrels"][query].get(document, 0) for document in v["run"][query]] for query in queries], dtype=float)
    ideal = np.array([list(v["qrels"][query].values()) for query in queries], dtype=float)
    hits, counts = gains > 0, (ideal > 0).sum(axis=1)
    assert metrics.mean(metrics.ndcg(gains, ideal, 5)) == pytest.approx(v["expected"]["ndcg@5 (linear gain)"], abs=1e-4)
    assert metrics.mean(metrics.average_precision(hits, counts, 5, "relevant")) == pytest.approx(v["expected"]["map@5"], abs=1e-4)
    assert metrics.mean(metrics.reciprocal_rank(hits, 6)) == v["expected"]["mrr"]


def test_lenskit(vectors):
    v = vectors["lenskit"]
    for case in v["rbp"]:
        hits = np.isin(case["list"], case.get("rel", case.get("truth")))[None]
        assert metrics.rank_biased_precision(hits, case["patience"])[0] == pytest.approx(case["expected"], abs=1e-9)
    for case in v["ils"]:
        similarity = lists.cosine_similarity(np.array(case["vectors"]))
        ranked = np.arange(len(similarity))[None]
        assert lists.intra_list_diversity(ranked, similarity, 3)[0] == pytest.approx(case["expected"], abs=1e-9)
    for case in v["ndcg_negative_gains"]:
        gains = np.array([case["ratings"]], dtype=float)
        value = metrics.ndcg(gains, gains, 5, normaliser="relevant", discount="max(log2(rank),1)")[0]
        assert value == pytest.approx(case["expected"], abs=5e-5)


def test_exponential_gains_weigh_high_ratings_more():
    value = metrics.ndcg(np.array([[1.0, 3.0]]), np.array([[3.0, 1.0]]), 2, gain="exponential")[0]
    assert value == pytest.approx((1 + 7 / np.log2(3)) / (7 + 1 / np.log2(3)), abs=1e-12)


def test_auc_from_scores_counts_ties_half_and_leaves_out_what_is_no_candidate():
    scores = np.array([[3.0, 2.0, 2.0, 1.0], [1.0, 2.0, -np.inf, -np.inf]])
    relevant = np.array([[False, True, False, True], [False, True, False, False]])
    values = metrics.auc(metrics.rank_sums(scores, relevant), relevant.sum(axis=1), np.isfinite(scores).sum(axis=1))
    np.testing.assert_allclose(values, [0.125, 1.0])


def test_calibration_is_zero_for_the_genres_of_the_history_and_grows_away_from_them():
    genres = np.array([[1, 0], [0, 1], [1, 1]])
    p = lists.genre_distribution(np.array([[1.0, 0, 2.0], [0, 0, 0]]), genres)
    np.testing.assert_allclose(p, [[2 / 3, 1 / 3], [0, 0]])
    assert lists.calibration(p, p)[0] == pytest.approx(0)
    assert np.isnan(lists.calibration(p, p)[1])
    one_genre = lists.calibration(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]]))[0]
    assert one_genre == pytest.approx(0.5 * np.log(0.5 / 0.995) + 0.5 * np.log(0.5 / 0.005))


def test_the_tail_by_interactions_is_what_the_head_leaves():
    assert lists.tail_items(np.array([50, 10, 30, 10, 0]), 0.2, "interactions").tolist() == [False, True, False, True, True]


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=8), st.integers(1, 6), st.integers(0, 4))
def test_metrics_stay_within_their_bounds_and_a_perfect_list_reaches_the_ideal(rows, k, more):
    hits = np.array(rows)
    relevant = hits.sum(axis=1) + more
    ideal = metrics.ones_below(relevant)
    best = np.arange(6) < np.minimum(relevant, 6)[:, None]
    for values, perfect in (
        (metrics.ndcg(hits, ideal, k), metrics.ndcg(best, ideal, k)),
        (metrics.average_precision(hits, relevant, k), metrics.average_precision(best, relevant, k)),
        (metrics.recall(hits, relevant, k, "min"), metrics.recall(best, relevant, k, "min")),
    ):
        assert (np.isnan(values) == (relevant == 0)).all()
        defined = relevant > 0
        assert ((values[defined] >= 0) & (values[defined] <= 1 + 1e-12)).all()
        np.testing.assert_allclose(perfect[defined], 1.0)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_gini_and_entropy_agree_about_evenness(counts):
    counts = np.array(counts)
    if not counts.sum():
        assert np.isnan(lists.gini(counts))
        assert np.isnan(lists.entropy(counts))
        return
    even = np.full(len(counts), 3)
    assert lists.gini(even) == pytest.approx(0)
    assert lists.entropy(even) == pytest.approx(np.log(len(counts)))
    assert -1e-12 <= lists.gini(counts) < 1
    assert lists.entropy(counts) <= lists.entropy(even) + 1e-12


def test_items_of_equal_popularity_share_a_rank():
    popularity = np.array([4, 2, 2, 1, 1, 0])
    surprise = lists.better_than_popularity(np.array([[1, 2, 3, 4, 5]]), popularity, 5)
    # ranks by popularity: 1, 2, 2, 3, 3; the list's own places fall by a sixth each
    np.testing.assert_allclose(surprise, [[1 - 5 / 6, 0, 0, 0, 2 / 6]], atol=1e-12)


def test_people_with_nothing_to_find_are_left_out_of_means():
    values = metrics.recall(np.array([[True, False], [False, False]]), np.array([2, 0]), 2)
    assert metrics.mean(values) == 0.5
    assert np.isnan(metrics.mean(values[1:]))
    assert np.isnan(metrics.weighted_mean(values[1:], np.ones(1)))


def test_lists_longer_than_the_catalog_are_correlated_and_right_as_if_they_held_all_of_it():
    hits, relevant = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], dtype=bool), np.array([2, 2])
    for k in (4, 10):
        np.testing.assert_allclose(metrics.accuracy(hits, relevant, k, 4), [0.5, 0.25])
        np.testing.assert_array_equal(metrics.matthews_correlation(hits, relevant, k, 4), [0.0, 0.0])
