"""The tokens of a model in Hugging Face layout, as `simulator.llm.llama_prompts.Compiler` and the writing of texts need them."""

from __future__ import annotations

import json
from typing import Any

from simulator.errors import ModelError

_ENDINGS = ("<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<|end|>", "<end_of_turn>", "</s>", "<|eom_id|>")
"""Control tokens that end a text or a turn in the families of models that are common."""


class TokenizersVocabulary:
    """A tokenizer of the library tokenizers (see `simulator.llm.llama_prompts.Vocabulary`).

    Args:
        tokenizer: what transformers loads. trained_context: most tokens the model was trained for, or 0 if unknown.
        ends: ids of the tokens that end a text, as the model's own configuration names them.
        where: the model, for messages.

    Raises:
        ModelError: the tokenizer is not one of the library tokenizers.
    """

    def __init__(self, tokenizer: Any, trained_context: int, ends: set[int], where: str) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelError(
                f"the tokenizer of '{where}' ({type(tokenizer).__name__}) is written in Python only; "
                "convert it to a tokenizer.json (transformers' fast format) first."
            )
        document = json.loads(backend.to_str())
        self._control, self._plain = (type(backend).from_str(json.dumps(document)) for _ in range(2))
        for copy in (self._control, self._plain):
            copy.no_truncation()
            copy.no_padding()
        self._plain.encode_special_tokens = True  # in the words of the library: control tokens are encoded like other text
        self._added = {int(token["id"]): token for token in document["added_tokens"]}
        self._is_bytes = '"ByteLevel"' in json.dumps(document.get("decoder"))
        self._pieces: dict[int, bytes] = {}
        control = {token["content"]: number for number, token in self._added.items() if token["special"]}
        own = {tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()
        self._ends = frozenset(ends | own | {control[text] for text in _ENDINGS if text in control})
        template = tokenizer.chat_template
        self._template: str | None = template.get("default") if isinstance(template, dict) else template
        self.size: int = backend.get_vocab_size(with_added_tokens=True)
        self.trained_context = trained_context
        first = self.tokenize("a")
        self.adds_space = bool(first) and str(self._plain.id_to_token(first[0])).startswith("▁")
        opened = tokenizer("a")["input_ids"]
        start = tokenizer.bos_token_id
        self.start_token: int | None = start if start is not None and list(opened[:1]) == [start] else None
        self.start_and_end: tuple[str, str] = (tokenizer.bos_token or "", tokenizer.eos_token or "")

    def metadata(self, key: str) -> str | None:
        """The chat template for ``tokenizer.chat_template``; nothing else is known by its GGUF name."""
        return self._template if key == "tokenizer.chat_template" else None

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        """Tokens of a text; lone surrogates become question marks, control tokens are recognised only with `control`."""
        data = text.encode("utf-8", "replace").decode("utf-8")
        tokens: list[int] = (self._control if control else self._plain).encode(data, add_special_tokens=False).ids
        return tokens

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; empty for control tokens and numbers that are no token."""
        if token not in self._pieces:
            self._pieces[token] = self._spelled(token)
        return self._pieces[token]

    def ends(self, token: int) -> bool:
        """Whether a token ends a text or a turn."""
        return token in self._ends

    def _spelled(self, token: int) -> bytes:
        text = self._plain.id_to_token(token)
        if text is None:
            return b""
        if token in self._added:
            return b"" if self._added[token]["special"] else str(text).encode()
        if self._is_bytes:
            return bytes(_BYTES[character] for character in text if character in _BYTES)
        if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            return bytes([int(text[3:5], 16)])
        return str(text).replace("▁", " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """Character -> byte in byte-level vocabularies: printable Latin-1 stands for itself, the rest follows from U+0100 on."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in itself]
    return {chr(byte): byte for byte in itself} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTES = _byte_alphabet()
