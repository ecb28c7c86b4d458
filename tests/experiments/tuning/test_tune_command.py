import json
from dataclasses import replace

import pytest

from experiments import config as configuration
from experiments.cli import call
from experiments.tuning.settings import TrainingConfig
from experiments.tuning.tune import prepare, tune
from simulator.errors import ConfigError
from simulator.llm import adapters, models


@pytest.fixture
def experiment(film_files, tmp_path):
    path = tmp_path / "films.toml"
    path.write_text(
        f'name = "films"\n[dataset]\nuse = "environments.datasets.movielens:MovieLens100K"\npath = "{film_files}"\n'
        '[recommender]\nuse = "environments.recommenders.popularity:Popularity"\n[tuning]\npacks = 2\n[tuning.examples]\npositives = 4\n'
    )
    return path


def said(capsys):
    return capsys.readouterr().err


def test_what_cannot_be_tuned_is_one_sentence(experiment, tmp_path, capsys):
    out = ["--output", str(tmp_path / "a")]
    assert call(["tune", str(experiment), *out, "--set", "decision.use=agents.controls:RandomDecisions"]) == 2
    assert "writes no prompts" in said(capsys)
    server = ["--set", "language_model.use=simulator.llm.openai_api:OpenAIServer"]
    assert call(["tune", str(experiment), *out, *server]) == 2
    assert "GGUF" in said(capsys)
    assert call(["tune", str(experiment), *out, "--set", "tuning.training.ranks=3"]) == 2
    assert "ranks" in said(capsys)
    assert call(["tune", str(experiment), *out, "--set", "tuning.examples.hidden_shares=[2]"]) == 2
    assert "hidden_shares" in said(capsys)
    assert call(["tune", str(experiment), *out, "--set", "tuning.training.method=prefix"]) == 2
    assert "'collaborative-lora'" in said(capsys)
    assert call(["tune", str(experiment), *out, "--set", "tuning.training.method=collaborative"]) == 2
    assert "decision.prompt.item_vectors = true" in said(capsys)
    assert call(["tune", str(experiment), *out, "--set", "decision.prompt.item_vectors=true"]) == 2
    assert "'lora' does not learn" in said(capsys)
    assert call(["tune", str(experiment), *out, "--set", "decision.prompt.thought_tokens=5"]) == 2
    assert "thought_tokens must be 0" in said(capsys)
    assert call(["run", str(experiment), *out, "--set", "population.users=5", "--set", "language_model.adapter=nothing"]) == 2
    assert "nothing" in said(capsys)


@pytest.mark.model
@pytest.mark.parametrize("teacher", ["choices", "taste"])
def test_examples_are_made_once_and_held_out_rows_do_not_matter(experiment, film_files, tmp_path, teacher):
    if not models.is_present(models.DEFAULT):
        pytest.skip("the default model is not installed")
    config = configuration.read(experiment, [f"tuning.examples.teacher={teacher}"])
    told = prepare(config, tmp_path / "a", lambda *_: None)
    first = {file.name: file.read_bytes() for file in (tmp_path / "a" / "packs").iterdir()}
    stamps = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "a" / "packs").iterdir()}
    assert prepare(config, tmp_path / "a", lambda *_: None) == told
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "a" / "packs").iterdir()} == stamps

    # The last fifth of each person's rows is held out; other ratings there change nothing.
    changed = tmp_path / "changed"
    changed.mkdir()
    for file in film_files.iterdir():
        (changed / file.name).write_bytes(file.read_bytes())
    rows = [line.split("\t") for line in (changed / "u.data").read_text().splitlines()]
    by_user: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        by_user.setdefault(row[0], []).append(number)
    for numbers in by_user.values():
        last = sorted(numbers, key=lambda number: int(rows[number][3]))[-1]
        rows[last][2] = "1" if rows[last][2] != "1" else "5"
    (changed / "u.data").write_text("".join("\t".join(row) + "\n" for row in rows))
    other = configuration.read(experiment, [f"dataset.path={changed}", f"tuning.examples.teacher={teacher}"])
    again = prepare(other, tmp_path / "b", lambda *_: None)
    assert again["data"]["fingerprint"] == told["data"]["fingerprint"]
    assert {file.name: file.read_bytes() for file in (tmp_path / "b" / "packs").iterdir()} == first


@pytest.mark.model
def test_a_tuned_model_is_an_adapter_that_a_run_can_name(experiment, tmp_path, capsys):
    pytest.importorskip("peft")
    if not models.is_present(models.DEFAULT):
        pytest.skip("the default model is not installed")
    config = configuration.read(experiment, ["tuning.validation_people=2"])
    folder = tmp_path / "films"
    folder.mkdir()
    quick = TrainingConfig(rank=2, alpha=4.0, batch_tokens=200, micro_tokens=200, minutes=0.05, evaluations=1, device="cpu")
    card = tune(config, folder, quick, lambda *_: None)
    assert card["tuning"]["steps"] >= 1
    assert adapters.find(str(folder)) == folder
    assert json.loads((folder / "card.json").read_text())["model"]["sha256"] == models.known()[models.DEFAULT].sha256
    assert tune(config, folder, quick, lambda *_: None) == card
    assert tune(config, folder, replace(quick, micro_tokens=100), lambda *_: None) == card
    with pytest.raises(ConfigError, match=r"was tuned with rank = 2 \(now 3\)"):
        tune(config, folder, replace(quick, rank=3), lambda *_: None)
    with pytest.raises(ConfigError, match=r"minutes = 0.05 \(now 1.0\)"):
        tune(config, folder, replace(quick, minutes=1.0), lambda *_: None)
    assert json.loads((folder / "training.json").read_text())["rank"] == 2
    goes_on_from(folder, experiment, config, replace(quick, start=str(folder), minutes=0.02), tmp_path)


def goes_on_from(folder, experiment, config, quick, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(ConfigError, match=r"rank 2 and alpha 4.*this tuning has 3 and 4; set tuning.training.rank = 2"):
        tune(config, other, replace(quick, rank=3), lambda *_: None)
    with pytest.raises(ConfigError, match="method = 'lora' only"):
        tune(config, other, replace(quick, method="soft-prompt"), lambda *_: None)
    again = tune(config, other, quick, lambda *_: None)
    assert again["start"]["name"] == folder.name
    assert again["start"]["sha256"] == adapters.identity(folder)
    assert tune(config, other, quick, lambda *_: None) == again
    seconds = json.loads((folder / "card.json").read_text())["tuning"]["seconds"]
    assert [card["tuning"]["seconds"] for card in adapters.descent(again)] == [again["tuning"]["seconds"], seconds]
    # With another split, people who are held out there may have been learned from, also through two tunings.
    split = configuration.read(experiment, ["tuning.validation_people=2", "dataset.test_share=0.4"])
    (tmp_path / "third").mkdir()
    with pytest.raises(ConfigError, match="another training part of 'ml-100k'"):
        tune(split, tmp_path / "third", replace(quick, start=str(other)), lambda *_: None)
    (folder / "card.json").unlink()
    with pytest.raises(ConfigError, match=r"has no card.json of usersim tune"):
        tune(config, tmp_path / "third", quick, lambda *_: None)


@pytest.mark.model
def test_half_a_tuning_goes_on_with_more_minutes_and_not_with_another_rank(experiment, tmp_path):
    pytest.importorskip("peft")
    if not models.is_present(models.DEFAULT):
        pytest.skip("the default model is not installed")
    config = configuration.read(experiment, ["tuning.packs=1", "tuning.validation_people=2"])
    folder = tmp_path / "films"
    folder.mkdir()
    quick = TrainingConfig(rank=2, alpha=4.0, batch_tokens=200, micro_tokens=200, minutes=1.0, evaluations=1, device="cpu")

    def stopped(what, done, total):
        if what.startswith("tuning:"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(config, folder, quick, stopped)
    assert (folder / "checkpoint.pt").is_file()
    with pytest.raises(ConfigError, match=r"is half tuned with rank = 2 \(now 3\).*another --name"):
        tune(config, folder, replace(quick, rank=3), lambda *_: None)
    assert tune(config, folder, replace(quick, minutes=0.05), lambda *_: None)["tuning"]["steps"] >= 1


@pytest.mark.model
def test_a_model_with_learned_vectors_plays_people_with_transformers_and_llama_cpp_refuses(experiment, tmp_path, capsys):
    method = "collaborative-lora"
    prompt = ["decision.prompt.item_vectors=true", "decision.prompt.history_vectors=4"]
    pytest.importorskip("peft")
    if not models.is_present(models.DEFAULT):
        pytest.skip("the default model is not installed")
    folder = tmp_path / "films"
    folder.mkdir()
    config = configuration.read(experiment, ["tuning.packs=1", "tuning.validation_people=1", f"tuning.training.method={method}", *prompt])
    quick = TrainingConfig(method=method, rank=2, alpha=4.0, batch_tokens=200, micro_tokens=200, minutes=0.02, evaluations=1, device="cpu")
    card = tune(config, folder, quick, lambda *_: None)
    assert card["tuning"]["steps"] >= 1
    few = ["--set", "population.users=2", "--set", "decision.reference_pages=1", "--set", "decision.texts=false", "--workers", "1"]
    given = [part for setting in [*prompt, f"language_model.adapter={folder}"] for part in ("--set", setting)]
    backend = ["--set", "language_model.use=simulator.llm.transformers_model:TransformersModel"]
    assert call(["run", str(experiment), "--output", str(tmp_path / "run"), *few, *given, *backend]) == 0
    assert (tmp_path / "run" / "summary.json").is_file()
    assert call(["run", str(experiment), "--output", str(tmp_path / "other"), *few, *given]) == 2
    assert "llama.cpp cannot compute with" in said(capsys)
