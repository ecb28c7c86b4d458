"""Every wrong configuration gives one clear sentence and status 2, without a traceback."""

from pathlib import Path

import pytest

from experiments.cli import call

RIGHT = """
name = "small"
rounds = 1
cohort_size = 8
language_model = false
[dataset]
path = "{data}"
[population]
users = 6
[decision]
use = "agents.controls:RandomDecisions"
[recommender]
use = "environments.recommenders.popularity:Popularity"
"""

CASES = {
    "not TOML": ("name = ", "is not valid TOML"),
    "no name": ("seed = 3", "the key 'name' is missing"),
    "a name with a slash": ('name = "a/b"', "name = 'a/b': string should match"),
    "an unknown key": ('name = "a"\nround = 3', "unknown key or section 'round'; did you mean 'rounds'?"),
    "an unknown section": ('name = "a"\n[populations]\nusers = 3', "did you mean 'population'?"),
    "an unknown key of the population": ('name = "a"\n[population]\nuser = 3', "[population] unknown key 'user'; did you mean 'users'?"),
    "no rounds": ('name = "a"\nrounds = 0', "rounds = 0: input should be greater than or equal to 1"),
    "rounds as a word": ('name = "a"\nrounds = "two"', "rounds = 'two': input should be a valid integer"),
    "an intervention with an unknown key": (
        'name = "a"\n[interventions.b]\nkind = "advert"\ntexts = "c"\nitems = {share = 0.5}',
        "[interventions.b] unknown key 'texts'; did you mean 'text'?",
    ),
    "an intervention of an unknown kind": (
        'name = "a"\n[interventions.b]\nkind = "advice"\nitems = {share = 0.5}',
        "[interventions.b] kind: input should be 'advert', 'price' or 'explanation'",
    ),
    "an intervention on nothing": ('name = "a"\n[interventions.b]\nkind = "advert"\ntext = "c"', "[interventions.b] items is missing"),
    "an intervention with two rules for its items": (
        'name = "a"\n[interventions.b]\nkind = "advert"\ntext = "c"\nitems = {share = 0.5, best = 3}',
        "[interventions.b] items: needs exactly one of",
    ),
    "an intervention with an unknown rule for its items": (
        'name = "a"\n[interventions.b]\nkind = "advert"\ntext = "c"\nitems = {shares = 0.5}',
        "[interventions.b] unknown key 'shares'; did you mean 'share'?",
    ),
    "an intervention with a word as response": (
        'name = "a"\n[interventions.b]\nkind = "advert"\nresponse = "much"\nitems = {share = 0.5}',
        "[interventions.b] response = 'much': must be 'read' or a number",
    ),
    "an intervention with a name that is none": (
        'name = "a"\n[interventions."b+c"]\nkind = "advert"\ntext = "c"\nitems = {share = 0.5}',
        "[interventions.b+c]: a name has letters",
    ),
    "a section as a value": ('name = "a"\ndataset = 3', "dataset = 3"),
}

OVERRIDES = {
    "people as a word": ("population.users=many", "[population] users = 'many': must be a whole number from 0 on, or \"all\""),
    "more people than there are": ("population.users=5000", "24"),
    "an unknown split": ("dataset.split=byuser", "[dataset] split = 'byuser'"),
    "a test share of 1": ("dataset.test_share=1.0", "[dataset] test_share = 1.0: input should be less than 1"),
    "a folder that is not there": ("dataset.path=/nowhere/at-all", "/nowhere/at-all"),
    "a recommender that is not there": (
        "recommender.use=environments.recommenders.bprr:BPR",
        "there is no module 'environments.recommenders.bprr'",
    ),
    "a class that is not there": (
        "recommender.use=environments.recommenders.popularity:Popular",
        "did you mean 'Popularity'?",
    ),
    "an import path without a class": ("recommender.use=environments.recommenders.popularity", "is not an import path"),
    "a class that is no recommender": ("recommender.use=agents.memory:NoMemory", "it has no method fit, recommend"),
    "an unknown option of the recommender": ("recommender.factors=8", "[recommender] unknown key 'factors'"),
    "a page without items": ("recommender.page_size=0", "[recommender] page_size = 0"),
    "an unknown exploration": ("recommender.exploration=greedy", "[recommender] exploration = 'greedy'"),
    "too few candidates": ("recommender.exploration=epsilon recommender.candidates=2", "cannot fill a page"),
    "an unknown memory option": ("memory.size=3", "[memory] unknown key 'size'"),
    "a share above one": ("decision.max_fallback_share=2", "[decision] max_fallback_share = 2"),
    "a choose rate of one": ("decision.choose_rate=1.0", "[decision] choose_rate = 1.0"),
    "a replay of nothing": ("decision.use=agents.controls:ReplayedDecisions", "[decision] run is missing"),
    "an override without a value": ("population.users", "write section.key=value"),
    "an override inside a value": ("name.first=3", "'name' is not a section"),
    "an advert that nobody can read": (
        'interventions.a={kind="advert",text="new",response="read",items={share=0.5}}',
        "[interventions.a] response = 'read', but people of agents.controls:RandomDecisions ask no language model",
    ),
    "an intervention after the last round": (
        'interventions.a={kind="advert",response=1,items={share=0.5},from_round=1}',
        "[interventions.a] from_round = 1, but the experiment has rounds = 1",
    ),
    "an intervention on an unknown item": (
        'interventions.a={kind="advert",response=1,items={ids=["x99"]}}',
        "[interventions.a] items: there is no item 'x99'",
    ),
    "a k-core that leaves nothing": ("dataset.k_core=5000", "k_core"),
    "a minimum rating that leaves nothing": ("dataset.min_rating=99", "99"),
}


@pytest.fixture
def right(tmp_path: Path, film_files: Path) -> Path:
    file = tmp_path / "right.toml"
    file.write_text(RIGHT.format(data=film_files), encoding="utf-8")
    return file


def one_sentence(capsys) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    progress = ("[ ", "data ", "note: ")  # what is going on, and how the data was understood
    lines = [line for line in captured.err.splitlines() if not line.startswith(progress)]
    text = " ".join(lines)
    assert "Traceback" not in text
    assert text.startswith("usersim: ")
    return text


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_file_is_explained(case, tmp_path, capsys):
    content, says = CASES[case]
    file = tmp_path / "wrong.toml"
    file.write_text(content, encoding="utf-8")
    assert call(["run", str(file), "--output", str(tmp_path / "run")]) == 2
    assert says in one_sentence(capsys)


@pytest.mark.parametrize("case", OVERRIDES)
def test_a_wrong_setting_is_explained(case, right, tmp_path, capsys):
    settings, says = OVERRIDES[case]
    overrides = [part for setting in settings.split(" ") for part in ("--set", setting)]
    assert call(["run", str(right), "--workers", "1", "--output", str(tmp_path / "run"), *overrides]) == 2
    assert says in one_sentence(capsys)


def test_a_missing_file_names_the_experiments_there_are(tmp_path, capsys):
    assert call(["run", str(tmp_path / "nothing.toml")]) == 2
    said = one_sentence(capsys)
    assert "experiments that come with usersim: " in said
    assert "movielens" in said


def test_a_file_that_is_not_text_is_explained(tmp_path, capsys):
    file = tmp_path / "binary.toml"
    file.write_bytes(b"name = \xff\xfe")
    assert call(["run", str(file)]) == 2
    assert "is not UTF-8 text" in one_sentence(capsys)


def test_an_output_folder_in_use_is_refused(right, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert call(["run", str(right), "--output", str(tmp_path / "run")]) == 2
    assert "already holds something" in one_sentence(capsys)


def test_an_unknown_command_or_option_is_status_two(capsys):
    assert call(["rum"]) == 2
    assert call(["run", "movielens", "--wrokers", "2"]) == 2
    assert "--workers" in capsys.readouterr().err
