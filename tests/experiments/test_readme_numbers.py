"""Numbers that README quotes are those of the measurements that are committed, and so are the pictures beside them."""

import json
import re
from pathlib import Path

import pytest

from experiments.analysis.augmentation_figures import dose_curve
from experiments.analysis.figure_style import measurement, measurement_in
from experiments.benchmarks import recommenders, speed_table

ROOT = Path(__file__).parents[2]
BENCHMARKS, FIGURES = ROOT / "results/benchmarks", ROOT / "results/figures"
README = (ROOT / "README.md").read_text(encoding="utf-8")

FIDELITY = {
    "1:1 random negatives, accuracy": ("accuracy_1_1", 3),
    "1:1, F1": ("f1_1_1", 3),
    "1:9, F1": ("f1_1_9", 3),
    "matched in popularity, AUC": ("auc_matched", 3),
    "rating, mean absolute error of the median": ("rating_mae", 3),
    "rating, root mean squared error of the mean": ("rating_rmse", 3),
    "sampled ratings, total variation": ("rating_tv", 3),
    "worst distribution": ("worst_distribution_ratio", 2),
    "classifier, simulated or real session, AUC": ("c2st_auc", 3),
    "top place / bottom place": ("slot_ratio", 3),
    "its lift of matched AUC": ("llm_lift", 4),
    "language model tuned for": ("auc_matched_llm_alone", 3),
    "items per session, simulated / real": ("activity_ratio", 3),
    "variance between people, popularity": ("variance_ratio_popularity", 3),
    "ranking of ten recommenders, Kendall tau": ("kendall_tau", 3),
}
"""Beginning of a row of the README -> figure of `fidelity.json`, decimals."""

LANGUAGE = {"language model alone, matched AUC": ("alone_auc_matched", 3), "lift of matched AUC by it": ("lift", 4)}
"""Beginning of a row of the README -> figure of `language_model.json`, decimals."""

TRAINED_ON = {
    "real": ("real", 0.0),
    "synthetic alone, as many as real": ("alone", 1.0),
    **{
        f"+ {name} {dose} %{people}": (name, dose / 100)
        for name in ("confidence", "synthetic", "exposure", "evidence")
        for dose in (7, 25, 50, 100)
        for people in ("", " (no people)")
    },
}
"""Second column of README's table of augmentation -> source, dose."""


def read(name):
    return json.loads((BENCHMARKS / f"{name}.json").read_text(encoding="utf-8"))


def tables():
    """All tables of the README: the cells of each row, the first row its headings."""
    found, rows = [], []
    for line in [*README.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            found.append([rows[0], *rows[2:]])
            rows = []
    return found


def numbers(cell):
    return [float(number) for number in re.findall(r"[-+]?\d*\.\d+|[-+]?\d+", cell)]


def fidelity_rows():
    entries = {entry["data"]: entry for entry in read("fidelity")}
    quoted = [table for table in tables() if table[0][0] == "figure" and "wanted" in table[0]]
    assert len(quoted) == len(entries) == 2
    return [(entries[data], row) for data, table in zip(("ml-100k", "ml-1m"), quoted, strict=True) for row in table[1:]]


@pytest.mark.parametrize(("entry", "row"), fidelity_rows(), ids=lambda value: value[0][:30] if isinstance(value, list) else value["data"])
def test_a_row_of_the_fidelity_tables_is_that_of_the_measurement(entry, row):
    told = next((found for name, found in LANGUAGE.items() if row[0].startswith(name)), None)
    if told is not None:
        figures = read("language_model")
        value, low, high = (f"{figures[told[0] + end]:.{told[1]}f}" for end in ("", "_low", "_high"))
        assert (entry["data"], row[1]) == ("ml-100k", f"{value} [{low}, {high}]")
        assert f"{figures[told[0] + '_users']} people" in row[0] or told[0] == "lift"
        return
    (key, digits) = next(found for name, found in FIDELITY.items() if row[0].startswith(name))
    low, high = entry["intervals"][key]
    unit = " floors" if key == "worst_distribution_ratio" else ""
    assert row[1].startswith(f"{entry[key]:.{digits}f}{unit} [{low:.{digits}f}, {high:.{digits}f}]"), row[1]
    for name, value in re.findall(r"(random|popularity|evidence|biases) (\d\.\d+)", row[2]):
        assert value == f"{entry['controls'][key][name]:.3f}" if key in entry["controls"] else name == "random"
    if row[3]:
        assert row[3] in (f"{entry['floors'][key]:.3f}", f"{entry['floors'][key]:g}")
    wanted = entry["targets"].get(key)
    assert numbers(row[4]) == ([wanted["target"]] if wanted else []) or row[4] == f"above {wanted['target']:g}"
    people = re.search(r"(\d+) people", row[0])
    assert people is None or int(people[1]) == entry["measured_with"][key]["people"]


def test_every_row_of_the_augmentation_table_is_that_of_the_measurement():
    (document,) = read("augmentation")
    rows = {(row["recommender"], row["source"], row["dose"], row["stratum"]): row for row in document["rows"]}
    (quoted,) = [table for table in tables() if table[0][:2] == ["recommender", "trained on"]]
    assert len(quoted) > 20
    for name, trained, everybody, gain, few, gain_of_few in quoted[1:]:
        source, dose = TRAINED_ON[trained]
        code = {"BPR": "bpr", "ItemKNN": "item-knn", "EASE": "ease"}[name]
        for stratum, value, gained in (("all", everybody, gain), ("cold_users", few, gain_of_few)):
            row = rows[code, source, dose, stratum]
            assert value == f"{row['ndcg']['value']:.3f}".removeprefix("0"), (name, trained, stratum)
            if gained:
                own = row["gain_over_duplicated"]
                assert gained == f"{own['value']:+.4f} [{own['low']:+.4f}, {own['high']:+.4f}]", (name, trained, stratum)


def test_every_row_of_the_table_of_variants_is_that_of_the_measurement():
    document = read("variants")
    (quoted,) = [table for table in tables() if table[0][0] == "variant" and "loss" in table[0]]
    for row, own in zip(quoted[1:], document["variants"], strict=False):
        if row[0].startswith("popularity;"):
            break
        assert row[1].split()[0] == f"{own['auc_matched']['value']:.3f}".removeprefix("0"), row
        assert row[3] == f"{own['auc_random']['value']:.3f}".removeprefix("0"), row
        assert row[4] == f"{own['loss']['value']:.3f}".removeprefix("0"), row


def test_what_commands_write_into_the_readme_is_what_they_would_write_now():
    assert recommenders.with_table(README, read("recommenders")) == README
    assert speed_table.rewritten(README, speed_table.markdown(read("inference"))) == README


def test_the_dose_curve_was_drawn_from_the_measurement_of_the_table_beside_it():
    assert measurement_in(FIGURES / "dose-curve.png") == measurement(read("augmentation")[0]["rows"])


def test_the_distributions_were_drawn_from_the_measurement_of_the_table_beside_them():
    (entry,) = [entry for entry in read("fidelity") if entry["data"] == "ml-100k"]
    assert measurement_in(FIGURES / "fidelity-distributions.png") == entry["measurements"]["distributions"]


def test_a_picture_drawn_from_other_numbers_holds_another_hash(tmp_path):
    document = read("augmentation")[0]
    made = dose_curve(document, tmp_path / "same.png").path
    assert measurement_in(made) == measurement(document["rows"])
    changed = json.loads(json.dumps(document))
    changed["rows"][0]["ndcg"]["value"] += 1e-6
    assert measurement_in(dose_curve(changed, tmp_path / "other.png").path) != measurement_in(made)
    assert measurement({"a": 1, "seconds": 3.0}) == measurement({"seconds": 4.0, "a": 1})
    assert measurement_in(FIGURES / "report.png") is None  # a photograph of a page
