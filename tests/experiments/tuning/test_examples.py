import numpy as np
import polars as pl
import pytest

from agents.actions import actions_for
from agents.decisions import first_page
from agents.exposures import Negatives, people_split
from agents.profiles import fit_profiles
from agents.prompts import PromptBuilder, PromptConfig
from experiments.tuning.examples import Situations, examples, pack
from experiments.tuning.examples_config import ExamplesConfig
from experiments.tuning.teacher import Teacher
from simulator.errors import ModelError
from simulator.llm.llama_prompts import Compiler
from simulator.records import Probe, Prompt, Segment
from simulator.seeds import Stream


class Characters:
    """A vocabulary of characters, except that a space and the word behind it are one token."""

    trained_context, adds_space, start_token, start_and_end = 0, False, None, ("", "")

    def __init__(self):
        self.words = {}

    def metadata(self, key):
        return None

    def tokenize(self, text, *, control=False):
        pieces = []
        for character in text:
            if character.isalnum() and pieces and (pieces[-1] == " " or pieces[-1][-1].isalnum()):
                pieces[-1] += character
            else:
                pieces.append(character)
        return [self.words.setdefault(piece, len(self.words)) for piece in pieces]

    def text(self, tokens):
        known = {number: word for word, number in self.words.items()}
        return "".join(known[int(token)] for token in tokens)


@pytest.fixture
def parts(film_world):
    vocabulary = Characters()
    prompts = PromptBuilder(film_world.catalog, actions_for(film_world), PromptConfig(memories=2))
    return film_world, vocabulary, prompts, Compiler(vocabulary, 10_000)


def made(parts, people, seed=0, order="temporal"):
    world, _, prompts, compiler = parts
    return examples(world, people, prompts, compiler, ExamplesConfig(positives=5), 0.4, order, Stream(seed))


def test_a_page_of_a_pack_is_the_prompt_of_the_simulation_word_for_word(parts):
    world, vocabulary, prompts, compiler = parts
    profiles = fit_profiles(world)
    found = made(parts, np.arange(6))
    profile = profiles[0]
    items = found.probe_item[(found.probe_user == profile.user) & (found.probe_kind == 0)].astype(np.int64)[:5]
    told = [Situations((first_page(profile, items, Stream(1)),), (np.zeros(len(items), dtype=bool),), (np.full(len(items), np.nan),))]
    packed = pack(told, prompts, compiler, 4_000, world.rating_scale)
    row = slice(int(packed.starts[0]), int(packed.starts[1]))
    tokens = packed.tokens[row][packed.branches[row] <= 1]
    spoken = [part for segment in prompts.page(told[0].pages[0]).segments for part in segment.parts if isinstance(part, str)]
    assert vocabulary.text(tokens) == "".join(spoken)
    assert profile.user == told[0].pages[0].profile.user


def test_the_true_answers_are_what_people_did(parts):
    world, *_ = parts
    found = made(parts, np.arange(world.n_users))
    real = {(row["user"], row["item"]): row["rating"] for row in world.interactions.iter_rows(named=True)}
    choose = found.probe_kind == found.kinds.index("choose")
    rate = found.probe_kind == found.kinds.index("rate")
    pairs = list(zip(found.probe_user.tolist(), found.probe_item.tolist(), strict=True))
    for number in np.flatnonzero(choose):
        assert (found.probe_label[number] == 0) == (pairs[number] in real)
    for number in np.flatnonzero(rate):
        expected = int(real[pairs[number]]) - 1 if pairs[number] in real else -1
        assert found.probe_label[number] == expected
    assert (found.probe_label[found.probe_kind == found.kinds.index("leave")] == -1).all()
    assert 0.2 < (found.probe_label[choose] == 0).mean() < 0.7


def test_hidden_items_do_not_stand_in_the_text_about_the_person(parts):
    world, vocabulary, *_ = parts
    found = made(parts, np.arange(world.n_users))
    for row in range(len(found)):
        part = slice(int(found.starts[row]), int(found.starts[row + 1]))
        text = vocabulary.text(found.tokens[part][found.branches[part] == 0])
        here = (found.probe_at >= part.start) & (found.probe_at < part.stop) & (found.probe_kind == 0) & (found.probe_label == 0)
        for item in found.probe_item[here].tolist():
            assert f"Film {item}," not in text
            assert f"Film {item}." not in text


def test_nobody_elses_rows_and_no_held_out_people_matter_to_somebodys_answers(parts):
    world = parts[0]
    people = people_split(world).fit
    found = made(parts, people)
    assert set(np.unique(found.probe_user).tolist()) <= set(people.tolist())
    again = made(parts, people)
    assert np.array_equal(found.tokens, again.tokens)
    assert not np.array_equal(found.tokens, made(parts, people, seed=1).tokens)


def test_labels_of_several_tokens_cannot_be_tuned(parts):
    world, _, prompts, _ = parts

    class Wordy:
        def prompt(self, prompt):
            changed = tuple(
                Segment(tuple(Probe(part.name, ("1", "10")) if isinstance(part, Probe) else part for part in segment.parts))
                for segment in prompt.segments
            )
            return compiler.prompt(Prompt(changed))

    class Letters(Characters):
        def tokenize(self, text, *, control=False):
            return [self.words.setdefault(character, len(self.words)) for character in text]

    compiler = Compiler(Letters(), 10_000)
    with pytest.raises(ModelError, match="several tokens"):
        examples(world, np.arange(4), prompts, Wordy(), ExamplesConfig(), 0.4, "random", Stream(0))


def test_data_without_ratings_has_no_stars_to_learn(parts, film_world):
    plain = film_world.with_interactions(film_world.interactions.with_columns(rating=pl.lit(None, dtype=pl.Float32)))
    prompts = PromptBuilder(plain.catalog, actions_for(plain), PromptConfig())
    found = examples(plain, np.arange(6), prompts, parts[3], ExamplesConfig(), 0.4, "random", Stream(0))
    assert found.kinds == ("choose", "leave")
    assert found.labels > 0


def test_a_teacher_says_how_probable_each_choice_was_and_changes_nothing_else(parts):
    world, _, prompts, compiler = parts
    people, config = people_split(world).fit, ExamplesConfig(positives=5)
    plain = examples(world, people, prompts, compiler, config, 0.4, "random", Stream(0))
    assert (plain.probe_share == 1).all()
    teacher = Teacher.fit(world, actions_for(world), "random", Stream(1), net=False)
    taught = examples(world, people, prompts, compiler, config, 0.4, "random", Stream(0), teacher)
    assert np.array_equal(taught.tokens, plain.tokens)
    assert np.array_equal(taught.probe_label, plain.probe_label)
    choose = plain.probe_kind == plain.kinds.index("choose")
    assert (taught.probe_share[~choose] == 1).all()
    assert ((taught.probe_share[choose] > 0) & (taught.probe_share[choose] < 1)).all()
    # Calibrated on these very choices: as many are expected as were made, and what happened was more probable than not.
    yes = taught.probe_label[choose] == 0
    expected = np.where(yes, taught.probe_share[choose], 1 - taught.probe_share[choose])
    assert expected.sum() == pytest.approx(yes.sum(), rel=0.01)
    assert expected[yes].mean() > expected[~yes].mean() + 0.01


def test_a_teacher_of_taste_says_nothing_that_popularity_says(parts):
    world = parts[0]
    profiles = {profile.user: profile for profile in fit_profiles(world)}
    users = np.repeat(np.arange(world.n_users), 20)
    items = Stream(3).generator().integers(0, world.n_items, len(users))
    counts = np.bincount(world.interactions["item"].to_numpy(), minlength=world.n_items)
    popular = np.log1p(counts[items])
    chosen = Stream(4).generator().random(len(users)) < popular / popular.max()
    told = {}
    for net in (False, True):
        teacher = Teacher.fit(world, actions_for(world), "random", Stream(1), net=net)
        share = teacher.shares(world, profiles, users, items, chosen).astype(np.float64)
        probability = np.where(chosen, share, 1 - share)
        told[net] = np.corrcoef(np.log(probability / (1 - probability)), popular)[0, 1]
    assert abs(told[True]) < 0.05
    assert told[False] > 0.1


@pytest.mark.parametrize("matched", [0.0, 0.5, 1.0])
def test_as_many_negatives_as_wanted_are_matched_in_popularity(parts, monkeypatch, matched):
    world, _, prompts, compiler = parts
    asked = []
    both = Negatives.both

    def noted(self, matched_to, random, *rest):
        asked.append((len(matched_to), random))
        return both(self, matched_to, random, *rest)

    monkeypatch.setattr(Negatives, "both", noted)
    examples(world, np.arange(4), prompts, compiler, ExamplesConfig(positives=5, matched=matched), 0.4, "random", Stream(0))
    assert len(asked) == 4
    assert all(found == int(matched * (found + drawn)) for found, drawn in asked)


def test_options_that_came_later_are_not_written_down_while_they_are_as_before():
    assert not {"matched", "teacher"} & set(ExamplesConfig().model_dump())
    assert ExamplesConfig(matched=1.0, teacher="taste").model_dump(mode="json")["teacher"] == "taste"
    assert ExamplesConfig.model_validate(ExamplesConfig(matched=1.0).model_dump()).matched == 1.0
