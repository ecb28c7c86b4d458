"""Kept prefixes, with a sequence that only remembers which tokens it holds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simulator.llm.prefixes import Prefixes, chain


class Tape:
    """A sequence whose state is its tokens."""

    def __init__(self) -> None:
        self.tokens = np.empty(0, np.int32)

    def cut(self, stream: int, length: int) -> None:
        assert stream == 0
        assert length <= len(self.tokens)
        self.tokens = self.tokens[:length]

    def save(self) -> np.ndarray:
        return self.tokens.copy().view(np.uint8)

    def restore(self, state: np.ndarray) -> None:
        self.tokens = state.view(np.int32).copy()


class Reader:
    """Computes prompts as the backend does: the kept chunks are entered, the last one is appended."""

    def __init__(self, budget: int) -> None:
        self.tape = Tape()
        self.prefixes = Prefixes(self.tape, budget)
        self.computed = 0

    def compute(self, *texts: str) -> int:
        """Puts a prompt on the tape; returns how many chunks were there already."""
        chunks = [np.array([ord(letter) for letter in text], np.int32) for text in texts]
        keys, ends = chain(chunks), np.cumsum([len(chunk) for chunk in chunks]).tolist()
        present = self.prefixes.enter(keys[:-1], ends[:-1])
        for number in range(present, len(chunks)):
            if number == len(chunks) - 1 and present < number:
                self.prefixes.keep()
            self.tape.tokens = np.concatenate([self.tape.tokens, chunks[number]])
            self.prefixes.append(keys[number], ends[number])
            self.computed += len(chunks[number])
        assert "".join(map(chr, self.tape.tokens)) == "".join(texts)
        return present


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
def test_the_sequence_always_holds_the_prompt_and_memory_stays_within_its_bounds(prompts, budget):
    reader = Reader(budget)
    for prompt in prompts:
        reader.compute(*prompt)
        assert reader.prefixes.kept_bytes <= budget
