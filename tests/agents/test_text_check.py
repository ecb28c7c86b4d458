"""Sentences about visits: true ones are accepted, false ones are not, and what is made from facts is true."""

import numpy as np
import polars as pl
import pytest

from agents import text_facts
from agents.answers import facts_for
from agents.facts import Facts, of_life
from agents.text_check import check, sentences
from agents.texts import checked_text
from agents.titles import titles_in
from simulator.dataset import FILMS, ITEMS_SCHEMA, Catalog
from simulator.records import MemoryRecord, Met, Trait, UserProfile
from simulator.seeds import Stream

FILMS_OF_IT = [
    ("Heat", 1995, ["Action", "Crime"]),
    ("Matrix, The", 1999, ["Action", "Sci-Fi"]),
    ("Toy Story", 1995, ["Animation", "Comedy"]),
    ("Toy Story 2", 1999, ["Animation"]),
    ("Seven (Se7en)", 1995, ["Crime"]),
    ("Dr. Strangelove or: How I Learned", 1963, ["War"]),
    ("187", 1997, ["Drama"]),
    ("English Patient, The", 1996, ["Drama"]),
]


@pytest.fixture(scope="module")
def catalog():
    titles, years, genres = zip(*FILMS_OF_IT, strict=True)
    numbers = list(range(len(titles)))
    columns = {"item": numbers, "item_id": [f"i{k}" for k in numbers], "title": titles, "year": years, "genres": genres}
    return Catalog(pl.DataFrame(columns | {"description": [None] * len(titles)}, schema=dict(ITEMS_SCHEMA)), FILMS)


@pytest.fixture(scope="module")
def person():
    trait = Trait(3.5, 0.5, "high")
    return UserProfile(
        user=0,
        user_id="u",
        synthetic=False,
        history=np.array([7], dtype=np.int32),
        ratings=np.array([5.0], dtype=np.float32),
        liked=(7,),
        disliked=(),
        genres={"Drama": 2.0, "War": 1.5, "Comedy": 0.5},
        activity=trait,
        conformity=None,
        diversity=trait,
        pickiness=trait,
        rating_histogram=None,
        rhythm=None,
        age=24,
        gender="male",
        occupation="technician",
    )


@pytest.fixture(scope="module")
def facts(catalog, person):
    met = (Met(0, True, 4.0), Met(1, chosen=False), Met(2, True, 2.0), Met(4, True, 5.0), Met(5, chosen=False))
    return Facts(catalog, person, (1.0, 5.0), met, pages=1, satisfaction=7.0, fatigue=0.5)


TRUE = """I watched Heat and gave it 4 stars.
I watched Heat, which I gave four stars.
I watched three of five films.
I watched 3 of the 5 films that I was shown.
I watched 3 films, and gave them 3.7 stars on average.
I watched Heat, Toy Story and Seven.
I skipped The Matrix.
I didn't watch "Matrix, The".
I watched Heat (1995) and 2 more.
My favourite film was Seven.
I liked Heat and disliked Toy Story.
I am a 24-year-old male technician.
I was 7 of 10 satisfied and felt a little tired.
I was satisfied because I liked Heat.
Heat is an action film from 1995.
My favourite genres are Drama and War.
I love The English Patient.
I watched most of the films.
I liked Toy Story least.
I skipped Dr. Strangelove or: How I Learned.
Today I watched Heat.
Of the five films I watched three.
I am hard to please.""".splitlines()

FALSE = {
    "I watched Heat and gave it 5 stars.": "another rating",
    "I watched four of five films.": "another number",
    "I watched three of six films.": "another number shown",
    "I watched Toy Story 2.": "an item that was not shown",
    "I watched The English Patient.": "an item that was not shown",
    "I did not watch Heat.": "not what happened to the item",
    "I liked Toy Story.": "not what happened to the item",
    "I am 23 years old.": "another age",
    "I am a 24-year-old female technician.": "another person",
    "I am a student.": "another person",
    "I watched Heat (1996).": "an item that was not shown",
    "Heat is a drama film.": "another genre",
    "My favourite film was Heat.": "not what happened to the item",
    "I watched all films.": "another share",
    "I watched only Heat.": "another number",
    "I was dissatisfied.": "another satisfaction",
    "I felt tired.": "another feeling",
    "I watched Heat, Toy": "unfinished",
    "I watched The Godfather.": "an unknown name",
    "I watched Heat with my wife.": "not understood",
    "I watched 187.": "another number",
    "I was satisfied because I disliked Toy Story.": "a reason that is no fact",
    "I watched Heat and it": "unfinished",
    "My favourite genre is Comedy.": "another taste",
    "Ich sah Heat.": "not understood",
}


@pytest.mark.parametrize("sentence", TRUE)
def test_a_true_sentence_is_accepted(facts, sentence):
    assert check(sentence, facts).reason == ""


@pytest.mark.parametrize(("sentence", "reason"), FALSE.items())
def test_a_false_sentence_is_not_and_the_reason_is_said(facts, sentence, reason):
    assert check(sentence, facts).reason == reason


def test_the_items_that_a_sentence_names_are_told(facts):
    assert check("I watched Heat, Toy Story and Seven.", facts).items == (0, 2, 4)
    assert check("I skipped The Matrix.", facts).items == (1,)


def test_titles_are_found_as_people_write_them(catalog):
    found = titles_in(catalog, "Toy Story 2 (1999), the Matrix and Seven; 187 of a heat")
    assert [one.items for one in found] == [(3,), (1,), (4,)]
    assert found[0].year == 1999
    assert [one.items for one in titles_in(catalog, "I saw 187", frozenset({6}))] == [(6,)]


def test_dots_of_titles_and_numbers_end_no_sentence(catalog):
    text = "I saw Dr. Strangelove or: How I Learned. I gave 4.5 stars! Yes"
    assert sentences(text, catalog) == ["I saw Dr. Strangelove or: How I Learned.", "I gave 4.5 stars!", "Yes"]


def test_what_is_made_from_facts_is_accepted(facts, catalog, person):
    lives = [facts, Facts(catalog, person, (1.0, 5.0), tuple(Met(item, chosen=False) for item in range(4)), pages=1)]
    lives.append(Facts(catalog, person, None, (Met(0, chosen=True), Met(1, chosen=True)), pages=1))
    for one in lives:
        said = {make(one, Stream(number)) for make in (text_facts.reason, text_facts.insight) for number in range(20)}
        said |= {text_facts.in_first_person(sentence) for sentence in sentences(text_facts.taste(one), catalog)} | set(text_facts.who(one))
        assert len(said) > 3
        assert [sentence for sentence in said if not check(sentence, one).passed] == []


def test_of_a_longer_text_the_true_sentences_are_kept(facts):
    text = "I watched Heat. I gave it 1 star. I watched Heat. This person likes drama. I skipped The"
    kept, refused = checked_text(text, facts, cut=True)
    assert kept == ["I watched Heat.", "This person likes drama."]
    assert refused == [("I gave it 1 star.", "a word that points nowhere"), ("I skipped The", "unfinished")]


def test_questions_are_answered_from_facts_or_not_at_all(catalog, person):
    text = "I watched Heat and gave it 4 stars."
    memories = [MemoryRecord(0, "rated", 0, 0, 0, text, item=0), MemoryRecord(1, "seen", 0, 0, 0, "I skipped The Matrix.", item=1)]
    life = of_life(catalog, (1.0, 5.0), person, memories)
    ask = lambda question: facts_for(question, life, memories)  # noqa: E731
    assert ask("How old are you?") == ["I am 24 years old."]
    assert ask("Did you watch Heat?") == [text]
    assert ask("What about The Matrix?") == ["I did not watch Matrix, The."]
    assert ask("What about Toy Story 2?") == ["I know nothing about Toy Story 2."]
    assert ask("What did you skip?") == ["I skipped The Matrix."]
    assert ask("Which genres do you like?")[0] == "My favourite genres are Drama and War."
    assert ask("What is your mother's name?") == []
    assert ask("Did you like The Godfather?") == []
