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
