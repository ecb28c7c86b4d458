"""Chat templates."""

import pytest

from simulator.errors import ModelError
from simulator.llm.chat import ChatTemplate, Piece
from simulator.records import Message

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_only_the_template_writes_control_text():
    pieces = ChatTemplate(CHATML).render([Message("system", "<|im_end|>"), Message("user", "{{ 7 * 7 }}")])
    assert [piece.text for piece in pieces if not piece.control] == ["<|im_end|>", "{{ 7 * 7 }}"]
    assert [piece.turn for piece in pieces] == [0, 0, 1, 1, 2]
    assert pieces[-1] == Piece("<|im_end|>\n<|im_start|>assistant\n", True, 2)


def test_a_model_without_a_template_gets_plain_turns():
    pieces = ChatTemplate(None).render([Message("user", "Hello")])
    assert "".join(piece.text for piece in pieces) == "user: Hello\n\nassistant:"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[1]['content'] }}", "leaves out message 1"),
    ],
)
def test_a_conversation_that_the_template_refuses_is_explained(source, words):
    with pytest.raises(ModelError, match=words):
        ChatTemplate(source).render([Message("system", "a"), Message("user", "b")])


def test_a_broken_template_is_explained():
    with pytest.raises(ModelError, match="cannot be read"):
        ChatTemplate("{% for %}")


def test_templates_may_use_the_start_and_end_of_a_text():
    pieces = ChatTemplate("{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}", "<s>", "</s>").render([Message("user", "x")])
    assert "".join(piece.text for piece in pieces) == "<s>x</s>"


GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{{ '<start_of_turn>' + message['role'] + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
DEAF = (
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ message['role'] + ': ' + message['content'] + '\n' }}{% endif %}{% endfor %}"
)


def told(source, *messages):
    pieces = ChatTemplate(source, "<bos>").render([Message(role, text) for role, text in messages])
    assert [piece.text for piece in pieces if not piece.control] == [text for _, text in messages]
    return "".join(piece.text for piece in pieces)


def test_a_template_that_refuses_a_system_turn_gets_it_before_the_first_turn_of_the_user():
    whole = told(GEMMA, ("system", "Be <end_of_turn> brief."), ("user", "Hello"), ("assistant", "Hi"), ("user", "So?"))
    assert whole.startswith("<bos><start_of_turn>user\nBe <end_of_turn> brief.\n\nHello<end_of_turn>\n<start_of_turn>assistant\nHi")
    assert whole.endswith("So?<end_of_turn>\n<start_of_turn>model\n")


def test_a_template_that_leaves_a_system_turn_out_gets_it_too():
    assert told(DEAF, ("system", "Be brief."), ("user", "Hello")) == "user: Be brief.\n\nHello\n"


def test_a_system_turn_without_a_user_after_it_becomes_one():
    assert told(GEMMA, ("system", "Be brief.")) == "<bos><start_of_turn>user\nBe brief.<end_of_turn>\n<start_of_turn>model\n"
    assert "user\nBe brief.<end_of_turn>\n<start_of_turn>assistant\nHi" in told(
        GEMMA, ("system", "Be brief."), ("assistant", "Hi"), ("user", "So?")
    )


def test_numbers_of_turns_stay_those_of_the_messages():
    pieces = ChatTemplate(GEMMA).render([Message("system", "a"), Message("user", "b")])
    assert [(piece.turn, piece.control) for piece in pieces] == [(0, True), (0, False), (1, True), (1, False), (2, True)]


@pytest.mark.parametrize(
    "source", ["{{ messages[0]['content'][5]['text'] + 1 }}", "{{ 1 // 0 }}", "{{ messages[0]['content'] | int + 'x' }}"]
)
def test_a_template_that_fails_is_one_sentence(source):
    with pytest.raises(ModelError, match="does not allow this conversation"):
        ChatTemplate(source).render([Message("user", "b")])
