"""Kept prefixes: a prefix is its tokens, kept as bytes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simulator.llm.prefixes import Prefixes, chain


class Reader:
    """Computes prompts as the backend does: what is known is copied, the rest is computed, all but the last chunk is kept."""

    def __init__(self, budget: int) -> None:
        self.prefixes = Prefixes(budget)

    def compute(self, *texts: str) -> int:
        """Puts a prompt together; returns how many chunks were there already."""
        chunks = [np.array([ord(letter) for letter in text], np.int32) for text in texts]
        keys, ends = chain(chunks), np.cumsum([0, *(len(chunk) for chunk in chunks)]).tolist()
        known = self.prefixes.find(keys[:-1])
        tape = np.empty(0, np.int32) if known.state is None else known.state.view(np.int32)
        tape = np.concatenate([tape[: ends[known.chunks]], *chunks[known.chunks :]])
        assert "".join(map(chr, tape)) == "".join(texts)
        if known.chunks < len(chunks) - 1:
            self.prefixes.keep(keys[:-1], tape[: ends[-2]].copy().view(np.uint8), known)
        return known.chunks


def test_a_person_comes_back_to_a_kept_prefix():
    reader = Reader(10_000)
    assert reader.compute("rules", "anna", "page 1") == 0
    assert reader.compute("rules", "bert", "page 1") == 1
    assert reader.compute("rules", "anna", "page 2") == 2
    assert reader.compute("rules", "bert", "page 2") == 2


def test_changed_memories_replace_the_old_ones():
    reader = Reader(10_000)
    reader.compute("rules", "anna", "nothing", "page 1")
    reader.compute("rules", "bert", "nothing", "page 1")
    before = reader.prefixes.kept_bytes
    assert reader.compute("rules", "anna", "a film.", "page 2") == 2
    assert reader.prefixes.kept_bytes == before
    assert reader.compute("rules", "bert", "nothing", "page 2") == 3


def test_the_least_recently_used_prefix_is_dropped():
    room = 2 * 4 * len("rulesanna")
    reader = Reader(room)
    for person in ("anna", "bert", "carl"):
        reader.compute("rules", person, "page 1")
    assert reader.prefixes.kept_bytes <= room
    assert reader.compute("rules", "bert", "page 2") == 2
    assert reader.compute("rules", "anna", "page 2") == 1


def test_chunk_borders_are_part_of_a_prefix():
    reader = Reader(10_000)
    reader.compute("ab", "c", "page")
    assert reader.compute("a", "bc", "page") == 0


names = st.sampled_from(["rules", "other", "anna", "bert", "carl", "x", "much longer than the others"])


@given(st.lists(st.lists(names, min_size=1, max_size=5), max_size=25), st.integers(0, 400))
def test_a_prompt_is_put_together_right_and_memory_stays_within_its_bounds(prompts, budget):
    reader = Reader(budget)
    for prompt in prompts:
        reader.compute(*prompt)
        assert reader.prefixes.kept_bytes <= budget
