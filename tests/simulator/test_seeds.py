import subprocess
import sys
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simulator.seeds import Stream

names = st.lists(st.one_of(st.integers(-(2**40), 2**40), st.text(max_size=8)), max_size=5).map(tuple)


@given(names, names)
def test_different_names_give_different_streams(one, other):
    same = [type(a) for a in one] == [type(a) for a in other] and one == other
    assert (Stream(1, one).key() == Stream(1, other).key()) == same


def test_a_number_and_the_same_digits_as_a_word_are_different_names():
    assert Stream(1, (1,)).key() != Stream(1, ("1",)).key()


def test_the_same_name_gives_the_same_numbers_in_another_process():
    code = "from simulator.seeds import Stream; print(Stream(7).child('user', 3).generator().random())"
    root = Path(__file__).resolve().parents[2]
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout
    assert float(printed) == Stream(7, ("user", 3)).generator().random()


def test_streams_of_neighbouring_names_are_uncorrelated():
    draws = np.array([Stream(5).child("user", user).generator().random(64) for user in range(400)])
    off_diagonal = np.corrcoef(draws)[~np.eye(400, dtype=bool)]
    assert abs(off_diagonal.mean()) < 0.01
    assert abs(draws.mean() - 0.5) < 0.01


def test_only_the_module_of_seeds_makes_generators():
    root = Path(__file__).resolve().parents[2]
    makers = ("default_rng(", "np.random.seed", "RandomState(", "Philox(", "random.Random(", "random.seed(")
    offenders = [
        f"{path.relative_to(root)}: {maker}"
        for package in ("simulator", "agents", "environments", "experiments")
        for path in (root / package).rglob("*.py")
        if path.name != "seeds.py" and "benchmarks" not in path.parts
        for maker in makers
        if maker in path.read_text(encoding="utf-8")
    ]
    assert offenders == []
