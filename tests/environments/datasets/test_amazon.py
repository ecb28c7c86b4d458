import gzip
import json

import pytest

from environments.datasets import sources
from environments.datasets.amazon import AmazonReviews
from environments.datasets.splits import SplitConfig, split
from environments.datasets.tables import InteractionTables
from simulator.errors import DataError
from simulator.seeds import Stream

REVIEWS = [
    {"reviewerID": "B", "asin": "2", "overall": 4.0, "unixReviewTime": 200, "reviewText": "It&#39;s  <b>good</b>\nfor them."},
    {"reviewerID": "A", "asin": "1", "overall": 5.0, "unixReviewTime": 100},
    {"reviewerID": "A", "asin": "2", "overall": 1.0, "unixReviewTime": 150, "reviewText": " "},
    {"reviewerID": "B", "asin": "1", "overall": 2.0, "unixReviewTime": 300, "reviewText": "5 < 6"},
]
ITEMS = [
    {"asin": "9", "title": "Never reviewed", "category": ["Cards"]},
    {
        "asin": "1",
        "title": "Cards &amp; more",
        "description": ["One.", "<p>Two.</p>"],
        "category": ["Gifts", "Gifts", "Paper"],
        "brand": "X",
    },
    {"asin": "2", "title": "", "description": [], "category": [], "brand": ""},
]


def write(folder, reviews=REVIEWS, items=ITEMS, ending=".json.gz"):
    folder.mkdir(exist_ok=True)
    for name, rows in (("Cards_5", reviews), ("meta_Cards", items)):
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        if ending.endswith(".gz"):
            (folder / f"{name}{ending}").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / f"{name}{ending}").write_text(text)
    return folder


def load(folder, **options):
    return AmazonReviews(AmazonReviews.Config(path=folder, **options)).load()


def test_reviews_ratings_and_products_are_read_without_markup(tmp_path):
    data = load(write(tmp_path))
    assert data.name == "Cards_5"
    assert data.users["user_id"].to_list() == ["A", "B"]
    assert data.interactions.rows() == [
        (0, 0, 5.0, 100, None),
        (0, 1, 1.0, 150, None),
        (1, 1, 4.0, 200, "It's good for them."),
        (1, 0, 2.0, 300, "5 < 6"),
    ]
    assert data.catalog.items.select("item_id", "title", "genres", "description").rows() == [
        ("1", "Cards & more", ["Gifts", "Paper"], "One. Two."),
        ("2", "2", [], None),
    ]
    assert data.catalog.domain.choose == "buy"
    assert data.rating_scale == (1.0, 5.0)


def test_the_edition_of_2023_is_read_too(tmp_path):
    rows = [{"user_id": "A", "asin": "x", "parent_asin": "1", "rating": 3.0, "timestamp": 1_500_000_000_123, "text": "fine"}]
    data = load(write(tmp_path, rows, [{"parent_asin": "1", "title": "One", "categories": ["C"], "store": "S"}], ".jsonl"), genres="brand")
    assert data.interactions.rows() == [(0, 0, 3.0, 1_500_000_000, "fine")]
    assert data.catalog.items["genres"].to_list() == [["S"]]


def test_times_of_a_copy_may_be_written_otherwise(tmp_path):
    rows = [REVIEWS[1] | {"unixReviewTime": "2018-01-02"}, REVIEWS[0] | {"unixReviewTime": "2018-01-01"}]
    with pytest.raises(DataError, match=r"dataset\.time_format = '%Y-%m-%d'"):
        load(write(tmp_path, rows))
    assert load(tmp_path, time_format="%Y-%m-%d").interactions["timestamp"].to_list() == [1_514_851_200, 1_514_764_800]
    write(tmp_path, [REVIEWS[0] | {"unixReviewTime": 1_514_764_800_000}])
    assert load(tmp_path, time_unit="ms").interactions["timestamp"].to_list() == [1_514_764_800]


def test_all_products_own_words_and_no_file_of_products(tmp_path):
    write(tmp_path)
    words = {"item": "card", "items": "cards", "choose": "give", "chosen": "given"}
    data = load(tmp_path, catalog="all", domain=words)
    assert data.catalog.item_ids.tolist() == ["1", "2", "9"]
    assert data.catalog.domain.chosen == "given"
    assert load(tmp_path, items="").catalog.titles == ["1", "2"]


def test_a_second_review_of_the_same_product_replaces_the_first(tmp_path):
    data = load(write(tmp_path, [*REVIEWS, REVIEWS[1] | {"unixReviewTime": 400, "reviewText": "again"}]))
    assert data.interactions.filter(user=0)["review"].to_list() == [None, "again"]
    assert sum(data.skipped.values()) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"reviewerID": "A", "asi', r"line 5, column 'object': found .*allowed is one JSON object per line"),
        ("[1]", "line 5, column 'object'"),
        (REVIEWS[0] | {"overall": 6.0}, r"line 5, column 'overall': found '6.0', allowed is a number from 1 to 5"),
        (REVIEWS[0] | {"asin": "3"}, "line 5, column 'asin': found '3', allowed is one of the 2 items"),
        (REVIEWS[0] | {"reviewerID": None}, "line 5, column 'reviewerID': found nothing"),
    ],
)
def test_a_bad_line_is_named_and_can_be_skipped(tmp_path, line, message):
    write(tmp_path, [*REVIEWS, line])
    with pytest.raises(DataError, match=message):
        load(tmp_path)
    data = load(tmp_path, on_bad_rows="skip")
    assert data.interactions.height == 4
    assert sum(data.skipped.values()) == 1


def test_a_folder_without_one_file_of_reviews_says_what_is_wanted(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        load(tmp_path / "absent")
    with pytest.raises(DataError, match=r"found none in .* name it with dataset\.reviews"):
        load(tmp_path)
    write(tmp_path)
    (tmp_path / "Books_5.json").write_text("{}\n")
    with pytest.raises(DataError, match=r"found Books_5\.json, Cards_5\.json\.gz"):
        load(tmp_path)
    assert load(tmp_path, reviews="Cards_5.json.gz").interactions.height == 4
    with pytest.raises(DataError, match="found no key reviewerID or user_id"):
        load(tmp_path, reviews="Books_5.json")


def test_such_a_folder_is_recognised_and_its_reviews_are_counted(tmp_path):
    found = sources.describe(write(tmp_path))
    assert found["rows_with_review"] == 2
    assert found["interactions"] == 4


def test_a_held_out_review_leaves_with_the_split(tmp_path):
    parts = split(load(write(tmp_path)), SplitConfig(method="leave-one-out"), Stream(1))
    assert parts.train.interactions["review"].to_list() == [None, "It's good for them."]
    assert parts.test.columns == ["user", "item", "rating", "timestamp"]


def test_another_review_is_another_data_set(tmp_path):
    one = load(write(tmp_path))
    two = load(write(tmp_path, [REVIEWS[0] | {"reviewText": "bad"}, *REVIEWS[1:]]))
    assert one.fingerprint() != two.fingerprint()


def test_any_table_may_have_a_column_of_reviews(tmp_path):
    (tmp_path / "log.csv").write_text('user,item,rating,words\nA,1,5,"so, so"\nA,2,4,\n')
    options = {"path": tmp_path, "interactions": "log.csv"}
    data = InteractionTables(InteractionTables.Config(**options, review="words")).load()
    assert data.interactions["review"].to_list() == ["so, so", None]
    assert "review" not in InteractionTables(InteractionTables.Config(**options)).load().interactions.columns
    with pytest.raises(DataError, match="there is no such column; unknown column 'word'; did you mean 'words'"):
        InteractionTables(InteractionTables.Config(**options, review="word")).load()


def test_the_gift_cards_have_as_many_reviews_as_their_source_says(shared_data):
    data = load(shared_data / "amazon-gift-cards", duplicates="keep")
    assert (data.interactions.height, data.n_users, data.n_items) == (2_972, 458, 148)
    assert (data.interactions["review"].str.len_chars() > 20).sum() == pytest.approx(1_792, abs=30)  # counted there with markup
    assert data.catalog.items["description"].null_count() == 3
