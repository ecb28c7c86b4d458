import gzip
from pathlib import Path

import polars as pl
import pytest

from environments.datasets.assembly import film_title, film_year
from environments.datasets.movielens import MovieLens1M, MovieLens100K, MovieLensLatest
from simulator.errors import DataError

GENRES = "unknown|0\nAction|1\nChildren's|2\nSci-Fi|3\n\n"
ITEMS = (
    "1|Usual Suspects, The (1995)|14-Aug-1995||http://x|0|1|0|1\n"
    "2|unknown||||1|0|0|0\n"
    "3|Misérables, Les (1995) (V)|01-Jan-1995||http://y|0|0|1|0\n"
)
USERS = "1|24|M|technician|85711\n2|53|F|other|94043\n9|33|F|none|15213\n"
RATINGS = "2\t1\t5\t881250950\n1\t3\t3\t881250949\n1\t1\t4\t881250949\n"


def write_original(folder: Path) -> Path:
    for name, text in (("u.genre", GENRES), ("u.item", ITEMS), ("u.user", USERS), ("u.data", RATINGS)):
        (folder / name).write_bytes(text.encode("latin-1"))
    return folder


def write_recbole(folder: Path) -> Path:
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    (folder / "ml-100k.inter").write_text(header + RATINGS)
    (folder / "ml-100k.user").write_text(
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n" + USERS.replace("|", "\t")
    )
    (folder / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tUsual Suspects, The\t1995\tAction Sci-Fi\n"
        "2\tunkonwn\tunkonwn\tunknown\n"
        "3\tMisérables, Les (1995)\tV\tChildren's\n",
        encoding="utf-8",
    )
    return folder


def load_100k(folder: Path):
    return MovieLens100K(MovieLens100K.Config(path=folder)).load()


def test_the_original_files_of_ml_100k_become_items_people_and_sorted_interactions(tmp_path):
    data = load_100k(write_original(tmp_path))
    assert data.catalog.titles == ["The Usual Suspects", "unknown", "Les Misérables"]
    assert data.catalog.items["year"].to_list() == [1995, None, 1995]
    assert data.catalog.items["genres"].to_list() == [["Action", "Sci-Fi"], [], ["Children's"]]
    assert data.users.rows() == [(0, "1", 24, "male", "technician"), (1, "2", 53, "female", None), (2, "9", 33, "female", None)]
    assert data.interactions.rows() == [(0, 0, 4.0, 881250949), (0, 2, 3.0, 881250949), (1, 0, 5.0, 881250950)]
    assert data.rating_scale == (1.0, 5.0)
    assert data.catalog.domain.chosen == "watched"


def test_recboles_copy_of_ml_100k_gives_the_same_data_set(tmp_path):
    first, second = tmp_path / "original", tmp_path / "recbole"
    first.mkdir()
    second.mkdir()
    assert load_100k(write_original(first)).fingerprint() == load_100k(write_recbole(second)).fingerprint()


def test_plots_become_descriptions(tmp_path):
    plots = tmp_path / "plots.json"
    plots.write_text('[{"movielens_id": "3", "plot": "A man is hunted."}, {"movielens_id": "1", "plot": ""}]')
    data = MovieLens100K(MovieLens100K.Config(path=write_original(tmp_path), plots=plots)).load()
    assert data.catalog.items["description"].to_list() == [None, None, "A man is hunted."]
    plots.write_text('[{"plot": "x"}]')
    with pytest.raises(DataError, match=r"plots\.json: an object of the list has no key 'movielens_id'"):
        MovieLens100K(MovieLens100K.Config(path=tmp_path, plots=plots)).load()


def test_without_a_path_the_cache_is_read_and_its_absence_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="usersim data get ml-100k"):
        MovieLens100K().load()
    (tmp_path / "data/ml-100k").mkdir(parents=True)
    write_recbole(tmp_path / "data/ml-100k")
    assert MovieLens100K().load().n_items == 3


def write_1m(folder: Path) -> Path:
    (folder / "movies.dat").write_bytes("1::Toy Story (1995)::Animation|Comedy\n7::Misérables, Les (1998)::Drama\n".encode("latin-1"))
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::0::70072\n")
    return folder


def test_ml_1m_has_words_for_its_codes_and_ages_within_its_bands(tmp_path):
    (write_1m(tmp_path) / "ratings.dat").write_text("2::7::5::978300760\n1::1::3::978302109\n")
    data = MovieLens1M(MovieLens1M.Config(path=tmp_path)).load()
    assert data.users.rows() == [(0, "1", 15, "female", "school student"), (1, "2", 60, "male", None)]
    assert data.catalog.titles == ["Toy Story", "Les Misérables"]
    assert data.interactions.rows() == [(0, 0, 3.0, 978302109), (1, 1, 5.0, 978300760)]


def test_ml_1m_with_some_times_missing_has_ratings_but_no_times(tmp_path):
    rows = "user_id,movie_id,rating,timestamp\n1,1,3,\n2,7,5,978300760\n"
    (write_1m(tmp_path) / "ratings_reconstructed.csv.gz").write_bytes(gzip.compress(rows.encode()))
    data = MovieLens1M(MovieLens1M.Config(path=tmp_path)).load()
    assert data.has_ratings
    assert not data.has_times


def test_the_csv_editions_read_half_stars_and_turn_frequent_tags_into_descriptions(tmp_path):
    folder = tmp_path / "ml-tiny"
    folder.mkdir()
    (folder / "movies.csv").write_text('movieId,title,genres\r\n5,"Big, The (1988)",Comedy|Drama\r\n6,Untitled,(no genres listed)\r\n')
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\r\n10,5,0.5,100\r\n2,6,4.5,90\r\n")
    (folder / "tags.csv").write_text("userId,movieId,tag,timestamp\r\n2,5,Funny,1\r\n10,5,sad,2\r\n10,5,funny ,3\r\n10,5,piano,3\r\n")
    data = MovieLensLatest(MovieLensLatest.Config(path=folder, tags=2)).load()
    assert data.name == "ml-tiny"
    assert data.catalog.titles == ["The Big", "Untitled"]
    assert data.catalog.items["description"].to_list() == ["tags: funny, piano", None]
    assert data.users["user_id"].to_list() == ["2", "10"]
    assert data.interactions["rating"].to_list() == [4.5, 0.5]
    assert data.rating_scale == (0.5, 5.0)


@pytest.mark.parametrize(
    ("raw", "title", "year"),
    [
        ("City of Lost Children, The (Cité des enfants perdus, La) (1995)", "The City of Lost Children (La Cité des enfants perdus)", 1995),
        ("Enfer, L' (1994)", "L'Enfer", 1994),
        ("Death Note: Desu nôto (2006–2007)", "Death Note: Desu nôto", 2006),
        ("Corrina, Corrina (1994)", "Corrina, Corrina", 1994),
        ("Babylon 5", "Babylon 5", None),
        ("2001: A Space Odyssey (1968) ", "2001: A Space Odyssey", 1968),
        ("Seven (a.k.a. Se7en) (1995)", "Seven (a.k.a. Se7en)", 1995),
    ],
)
def test_titles_read_as_people_say_them(raw, title, year):
    frame = pl.DataFrame({"raw": [raw]}).select(title=film_title(pl.col("raw")), year=film_year(pl.col("raw")))
    assert frame.row(0) == (title, year)


def test_the_real_ml_100k_has_its_published_counts(shared_data):
    data = load_100k(shared_data / "ml-100k")
    assert (data.n_users, data.n_items, data.interactions.height) == (943, 1682, 100_000)
    assert data.interactions["rating"].mean() == pytest.approx(3.52986, abs=1e-5)
    assert data.catalog.titles[49] == "Star Wars"


def test_the_real_ml_1m_has_its_published_counts(shared_data):
    data = MovieLens1M(MovieLens1M.Config(path=shared_data / "ml-1m")).load()
    assert (data.n_users, data.interactions["item"].n_unique(), data.interactions.height) == (6040, 3706, 1_000_209)


def test_the_real_ml_latest_small_has_its_published_counts(shared_data):
    data = MovieLensLatest(MovieLensLatest.Config(path=shared_data / "ml-latest-small")).load()
    assert (data.n_users, data.n_items, data.interactions.height) == (610, 9742, 100_836)
