import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agents.exposures import people_split
from agents.population import PopulationConfig, choose_people
from agents.profiles import fit_profiles
from simulator.errors import ConfigError
from simulator.records import UserProfile
from simulator.seeds import Stream

SEED = Stream(7).child("population")


@pytest.fixture(scope="module")
def people(make_dataset) -> list[UserProfile]:
    return fit_profiles(make_dataset([(u, i, 3.0, i) for u in range(30) for i in range(u + 1)], [[]] * 30))


def test_all_means_everybody(people: list[UserProfile]) -> None:
    assert choose_people(people, PopulationConfig(users="all"), SEED) == people


def test_the_same_seed_chooses_the_same_people_and_another_seed_others(people: list[UserProfile]) -> None:
    config = PopulationConfig(users=10)
    chosen = choose_people(people, config, SEED)
    assert chosen == choose_people(people, config, SEED)
    assert chosen != choose_people(people, config, Stream(8).child("population"))
    assert [p.user for p in chosen] == sorted({p.user for p in chosen})


def test_more_people_include_those_of_fewer(people: list[UserProfile]) -> None:
    few, many = ({p.user for p in choose_people(people, PopulationConfig(users=n), SEED)} for n in (5, 20))
    assert few < many


@given(st.integers(0, 30), st.integers(0, 1000))
def test_strata_keep_the_shares_of_the_levels(people: list[UserProfile], users: int, seed: int) -> None:
    config = PopulationConfig(users=users, synthetic=1, stratify="activity")
    levels = [p.activity.level for p in choose_people(people, config, Stream(seed))]
    assert len(levels) == users
    assert all(abs(levels.count(level) - users / 3) < 1 for level in ("low", "medium", "high"))


def test_more_people_than_there_are_is_a_clear_error(people: list[UserProfile]) -> None:
    with pytest.raises(ConfigError, match=r"population\.users = 2000, but the data has 30 people with training interactions"):
        choose_people(people, PopulationConfig(users=2000), SEED)


def test_people_of_one_role_are_taken_and_an_error_says_how_many_there_are(make_dataset) -> None:
    dataset = make_dataset([(u, i, 3.0, i) for u in range(30) for i in range(u + 1)], [[]] * 30)
    roles, everybody = people_split(dataset), fit_profiles(dataset)
    for name, codes in (("fit", roles.fit), ("validation", roles.validation), ("held-out", roles.held_out)):
        found = choose_people(everybody, PopulationConfig(users="all", among=name), SEED, roles)
        assert [person.user for person in found] == codes.tolist()
    with pytest.raises(ConfigError, match="has 9 people with training interactions among its held-out people"):
        choose_people(everybody, PopulationConfig(users=10, among="held-out"), SEED, roles)


def test_nobody_at_all_is_a_clear_error_but_only_synthetic_people_are_fine(people: list[UserProfile]) -> None:
    with pytest.raises(ConfigError, match="nobody to simulate"):
        choose_people(people, PopulationConfig(users=0), SEED)
    assert choose_people(people, PopulationConfig(users=0, synthetic=3), SEED) == []


@pytest.mark.parametrize("users", [-1, 1.5, "some", True, None])
def test_a_number_of_users_that_is_none_is_refused(users: object) -> None:
    with pytest.raises(ValidationError, match='whole number from 0 on, or "all"'):
        PopulationConfig.model_validate({"users": users})
