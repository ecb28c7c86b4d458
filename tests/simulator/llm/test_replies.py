import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import ModelError
from simulator.llm.replies import ImpossibleError, form, form_schema, most_likely, plain, read_form, read_labels, unrolled, without_thoughts
from simulator.records import Probe, Prompt, Segment

TEN = Probe("satisfaction", tuple(str(number) for number in range(1, 11)))


def asked(probe, model, spaced=True):
    """Reads a probe from a function that tells the next tokens after what was written."""
    answers = {"": model("")}
    while isinstance(read := read_labels(probe, answers, spaced=spaced), list):
        answers |= {written: model(written) for written in read}
    return np.exp(read[0]), read[1], len(answers)


@given(st.lists(st.floats(0.001, 1.0), min_size=3, max_size=3), st.floats(0, 1))
def test_labels_of_one_token_keep_their_proportions(weights, other):
    yes, no, more = np.array(weights) / (sum(weights) + other)
    read, mass, questions = asked(
        Probe("p", ("yes", "no")), lambda _: {" yes": yes, "YES": more, " no": no, "\n": other / (sum(weights) + other)}
    )
    assert questions == 1
    assert read == pytest.approx([(yes + more) / (yes + no + more), no / (yes + no + more)])
    assert mass == pytest.approx(yes + no + more)


# No label below the share from which a token is followed (WORTH_ASKING).
@given(st.lists(st.floats(0.1, 1.0), min_size=10, max_size=10), st.booleans())
def test_labels_that_begin_one_another_get_the_same_however_the_model_cuts_them(weights, own_space):
    truth = np.array(weights) / sum(weights)
    first = truth.copy()
    first[0] += truth[9]
    lead = "" if own_space else " "

    def model(written):
        if own_space and written == "":
            return {" ": 0.9, "7": 0.05}
        if written == (" 1" if own_space else lead + "1"):
            return {"0": truth[9] / first[0], "\n": truth[0] / first[0]}
        return {f"{lead}{number}": first[number - 1] for number in range(1, 10)}

    read, mass, _ = asked(TEN, model)
    assert read == pytest.approx(truth, rel=1e-6)
    assert mass == pytest.approx(1.0)


def test_a_label_that_is_a_token_is_not_looked_for_behind_its_beginning():
    likely = {" 1": 0.3, " 10": 0.14} | {f" {number}": 0.07 for number in range(2, 10)}
    read, _, questions = asked(TEN, lambda _: likely)
    assert questions == 1
    assert read[[0, 1, 9]] == pytest.approx([0.3, 0.07, 0.14])
    read, _, questions = asked(Probe("p", ("yes", "no")), lambda _: {" yes": 0.2, " no": 0.1, " Y": 0.4, " ": 0.3})
    assert questions == 1
    assert read == pytest.approx([2 / 3, 1 / 3])


def test_a_label_of_several_tokens_is_followed_to_its_end():
    told = {
        "": {" sat": 0.5, " un": 0.5},
        " sat": {"isfied": 0.6, "urday": 0.4},
        " un": {"sat": 0.2, "til": 0.8},
        " unsat": {"isfied": 1.0},
    }
    read, mass, questions = asked(Probe("p", ("satisfied", "unsatisfied")), told.__getitem__)
    assert questions == 4
    assert read == pytest.approx([0.75, 0.25])
    assert mass == pytest.approx(0.4)


def test_numbers_of_two_digits_are_not_taken_for_digits_behind_a_space():
    read, _, questions = asked(
        Probe("p", ("1", "5")), lambda written: {" ": 0.6, "15": 0.2, "1": 0.2} if written == "" else {"1": 0.3, "5": 0.7}
    )
    assert questions == 2
    assert read == pytest.approx([0.3, 0.7])


def test_a_label_that_is_not_listed_gets_at_most_what_the_least_listed_token_has():
    read, mass, _ = asked(Probe("p", ("yes", "no")), lambda _: {" yes": 0.9, " The": 0.02})
    assert read == pytest.approx([0.9 / 0.91, 0.01 / 0.91])
    assert mass == pytest.approx(0.9)
    assert asked(Probe("p", ("yes", "no")), lambda _: {" The": 0.02})[1] == 0


def test_the_drawn_token_that_some_servers_add_to_the_list_is_not_counted():
    assert most_likely({"a": -0.1, "b": -3.0, "drawn": -20.0, "bad": None}, 2) == pytest.approx({"a": np.exp(-0.1), "b": np.exp(-3.0)})


@given(st.text())
def test_text_without_marks_stays_and_no_mark_is_left(text):
    assert plain(plain(text)) == plain(text)
    marked = plain(f"{text}<|im_end|>{text}</s>[INST]")
    assert "<|" not in marked
    assert "</s>" not in marked
    assert "[INST]" not in marked
    assert plain("1 < 2 [sic] a<b") == "1 < 2 [sic] a<b"


def test_places_of_probes_are_behind_text_without_trailing_spaces():
    prompt = Prompt((Segment(("Heat | watch: ", Probe("choose", ("yes", "no")), " stars:", Probe("rate", ("1", "2")))),))
    text, places = unrolled(prompt)
    assert text == "Heat | watch: stars:"
    assert [text[:place] for place in places] == ["Heat | watch:", "Heat | watch: stars:"]


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ((Probe("first", ("yes", "no")),), "probe 'first' has no text before it"),
        (("a:", Probe("one", ("yes",))), "needs at least two labels that differ"),
        (("a:", Probe("twins", ("yes", "Yes"))), "needs at least two labels that differ"),
        (("a:", Probe("empty", ("yes", " "))), "needs at least two labels that differ"),
    ],
)
def test_probes_that_cannot_be_read_are_refused(parts, sentence):
    with pytest.raises(ModelError, match=sentence):
        unrolled(Prompt((Segment(parts),)))


def test_two_probes_of_one_name_cannot_be_a_form():
    with pytest.raises(ModelError, match="two probes named 'p'"):
        form_schema([Probe("p", ("a", "b"))] * 2)


@given(st.text())
def test_no_text_of_an_item_imitates_a_blank(text):
    probe = Probe("choose 1", ("yes", "no"))
    assert form(Prompt((Segment((f"{text}<choose 2: yes|no>", probe)),))).count("<") == 1


@given(st.text())
def test_any_reply_is_read_or_unreadable(reply):
    scores = read_form([Probe("p", ("yes", "no"))], reply, 0.02)
    assert scores.status == "unreadable"
    assert scores.reply == reply


ASKED = [Probe("choose 1", ("yes", "no")), Probe("rate 1", tuple("12345"))]
GOOD = '{"choose 1": "yes", "rate 1": "4"}'


@pytest.mark.parametrize(
    "reply",
    [
        f"<think>\nHm.\n</think>\n\n{GOOD}",
        f"Hm, rather not?</think>{GOOD}",
        f'<think>First {{"choose 1": "no", "rate 1": "1"}}, no.</think>{GOOD}',
        f'<THINKING>{{"choose 1": "no", "rate 1": "1"}}</THINKING> {GOOD}',
        f"<|channel|>analysis<|message|>Well {{...}}<|end|><|start|>assistant<|channel|>final<|message|>{GOOD}<|return|>",
        f"Sure! Here is the JSON:\n{GOOD}",
        f"{GOOD}\n\nHope this helps! {{:-}}",
        f"```json\n{GOOD}\n```",
        f"Here:\n```\n{GOOD}\n```\nDone.",
        f"{GOOD}\n{GOOD}",
        '{"choose 1": "yes", "rate 1": "4", "why": "I like it", "nested": {"a": [1]}}',
        '{"answers": {"choose 1": "yes", "rate 1": 4}}',
        '[{"choose 1": "Yes ", "rate 1": 4.0}]',
        'Here { is it: {"choose 1": "yes", "rate 1": "4"}',
    ],
)
def test_a_form_is_read_whatever_stands_around_it(reply):
    scores = read_form(ASKED, reply, 0.02)
    assert scores.status == "ok"
    assert [int(np.argmax(values)) for values in scores.logprobs] == [0, 3]


@pytest.mark.parametrize(
    "reply",
    [
        f"<think>It could be {GOOD}",
        f"<think>It could be {GOOD}</think> I would rather not say.",
        f'{GOOD} or {{"choose 1": "no", "rate 1": "4"}}',
        '{"choose 1": "yes", "choose 1": "no", "rate 1": "4"}',
        '{"choose 1": "yes"} {"rate 1": "4"}',
        '{"choose 1": true, "rate 1": "4"}',
        '{"choose 1": "yes", "rate 1": NaN}',
        '{"choose 1": ["yes"], "rate 1": "4"}',
        "{" * 100_000,
        '{"a":' * 50_000,
        "[" * 100_000 + GOOD[:-1],
    ],
)
def test_a_form_that_is_not_filled_in_or_says_two_things_is_unreadable(reply):
    assert read_form(ASKED, reply, 0.02).status == "unreadable"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>Hm.</think> I like westerns.", "I like westerns."),
        ("Hm.</think>\nI like westerns.", "I like westerns."),
        ("<think>Hm, and hm", ""),
        ("I like <b>westerns</b>, I think.", "I like <b>westerns</b>, I think."),
        ("  untouched \n", "  untouched \n"),
    ],
)
def test_thoughts_are_no_part_of_what_is_said(text, said):
    assert without_thoughts(text) == said


@pytest.mark.parametrize("told", [0.7, 1e-3, float("nan"), float("inf"), -float("inf"), 10**400, "much", True, [], {}])
def test_what_is_no_logarithm_of_a_probability_is_refused(told):
    with pytest.raises(ImpossibleError, match="no logarithm of a probability"):
        most_likely({" yes": -0.5, " no": told}, 5)


def test_probabilities_that_are_more_than_one_together_are_refused():
    with pytest.raises(ImpossibleError, match="more than 1"):
        most_likely({" yes": -0.1, " no": -0.1}, 5)
    with pytest.raises(ImpossibleError, match="more than 1"):
        most_likely([(" yes", -0.1), (" yes", -0.1)], 5)
    assert most_likely({" yes": 5e-5, " no": "-9.5"}, 5) == pytest.approx({" yes": 1.0, " no": np.exp(-9.5)})
    assert most_likely([("�", -2.0), ("�", -2.0), (" no", -1.0)], 5) == pytest.approx({"�": 2 * np.exp(-2), " no": np.exp(-1)})
