"""Text to token ids and back."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from longjing.errors import UserError
from longjing.gguf import GGUF, SUFFIX
from longjing.text.gguf import read_tokenizer, tokenizer_fields
from longjing.text.sentencepiece import is_sentencepiece
from longjing.text.template import PLACEHOLDER, ChatTemplate, Message
from longjing.text.turn_end import end_ids

# As in R1's vocabulary, only the first three are special: they vanish under `skip_special_tokens`.
_SPECIAL = {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>", "pad_token": "<｜▁pad▁｜>"}
_MARKERS = ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"]
_TEMPLATE = Path(__file__).with_name("chat_template.jinja")

# Merges stay inside these pieces. An operator, a relation or a bracket stands alone, so that a formula is
# cut the same way wherever it stands; a LaTeX command is one piece; a word takes the space before it; and
# line breaks keep to themselves.
_PIECES = (
    r"'(?:[sdmt]|ll|ve|re)(?!\p{L})"
    r"|\\[A-Za-z]+"
    r"| ?[\p{L}\p{M}]+"
    r"| ?[\p{Sm}\p{Ps}\p{Pe}*/^\\\-]"
    r"| ?[^\s\p{L}\p{M}\p{Sm}\p{Ps}\p{Pe}*/^\\\-]+"
    r"|[\r\n]+"
    r"|[^\S\r\n]+(?!\S)|[^\S\r\n]"
)


# The byte that each letter of a byte-level vocabulary stands for: printable ones for themselves, and the others, in
# order, for U+0100 and what follows (the table of GPT-2).
_BYTES = {chr(byte): byte for byte in (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))}
_BYTES |= {chr(256 + n): byte for n, byte in enumerate(byte for byte in range(256) if chr(byte) not in _BYTES)}

_BYTE = re.compile("<0x([0-9A-F]{2})>")  # the name of a token that stands for one

_WINDOW = 1 << 16  # characters that are encoded at once to count tokens
_SLACK = 64  # tokens that a cut may add: more than it does


class TooLong(UserError):
    """A text has more tokens than it may. `tokens`: how many, as far as they were counted."""

    def __init__(self, tokens: str) -> None:
        super().__init__(f"the text has {tokens} tokens")
        self.tokens = tokens


class Tokenizer:
    """BPE with its chat template: over bytes, as our own and those of DeepSeek-R1, Qwen2 and Llama 3, or
    sentencepiece's with bytes for what it doesn't know (Llama 2, TinyLlama, Mistral).

    `config`: the content of tokenizer_config.json; `origin`: what messages call it. `bos_id` is None where the model
    knows no such token (Qwen2), and so are `think_id` and `end_think_id`. A tokenizer without padding pads with its end
    token, as R1's does. `adds_bos`: a plain text begins with the begin token (`encode_prompt`). `falls_back_to_bytes`:
    it is sentencepiece's.
    """

    def __init__(self, backend: Backend, config: Mapping[str, Any], template: str | None, origin: str) -> None:
        self.falls_back_to_bytes = is_sentencepiece(backend)
        if not self.falls_back_to_bytes and "ByteLevel" not in repr(backend.decoder):
            raise UserError(
                f"{origin}: only byte-level BPE (DeepSeek, Qwen, Llama 3) and sentencepiece's BPE with byte fallback "
                "(Llama 2, Mistral) are read"
            )
        tokens: dict[str, str] = {}
        ids: dict[str, int] = {}
        for name in _SPECIAL:
            content = config.get(name)
            if isinstance(content, dict):  # the long form: {"content": ..., "lstrip": ...}
                content = content.get("content")
            if content is None:
                continue
            token_id = backend.token_to_id(str(content))
            if token_id is None:
                raise UserError(f"{origin}: the {name} {content!r} is not in the vocabulary")
            tokens[name], ids[name] = content, token_id
        if "eos_token" not in ids:
            raise UserError(
                f"{origin}: no eos_token is named (in tokenizer_config.json, or tokenizer.ggml.eos_token_id in a GGUF "
                "file); without it no text ends"
            )
        self.bos_id: int | None = ids.get("bos_token")
        self.eos_id: int = ids["eos_token"]
        self.pad_id: int = ids.get("pad_token", self.eos_id)
        self.think_id: int | None = backend.token_to_id("<think>")
        self.end_think_id: int | None = backend.token_to_id("</think>")
        self._added = backend.get_added_tokens_decoder()
        self.adds_bos = self.bos_id is not None and _adds_bos(backend, config, self.bos_id)
        self._backend, self._config, self.origin = backend, config, origin
        self._template = None if template is None else ChatTemplate(template, origin, tokens)

    @classmethod
    def from_directory(cls, directory: str | Path) -> "Tokenizer":
        """Read tokenizer.json, tokenizer_config.json and any chat_template.jinja; of a GGUF file its tokenizer. Raises
        UserError, naming the file, if one is missing or broken."""
        directory = Path(directory)
        if directory.suffix == SUFFIX:
            return cls(*read_tokenizer(GGUF(directory)), str(directory))
        path = directory / "tokenizer.json"
        text = _read(path)
        try:
            backend = Backend.from_buffer(text.encode())
        except ValueError as error:
            raise UserError(f"{path}: not a tokenizer: {error}") from error
        path = directory / "tokenizer_config.json"
        text = _read(path)
        try:
            config = json.loads(text)
        except ValueError as error:
            raise UserError(f"{path}: not JSON: {error}") from error
        if not isinstance(config, dict):
            raise UserError(f"{path}: expected a JSON object")
        template = config.get("chat_template")
        if isinstance(template, list):  # several, each {"name": ..., "template": ...}
            named = [entry for entry in template if isinstance(entry, dict)]
            template = next((e.get("template") for e in named if e.get("name") == "default"), None)
        if not isinstance(template, str | None):
            raise UserError(f"{path}: chat_template is neither text nor a list of named templates")
        path = directory / "chat_template.jinja"
        if path.exists():
            template = _read(path)
        tokens = _special_tokens_map(directory)
        config |= {name: token for name, token in tokens.items() if config.get(name) is None}
        return cls(backend, config, template, str(directory))

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Learn at most `vocab_size` tokens; fewer if the texts have no more pairs that occur twice.

        Any text comes back exactly. A digit is a token of its own, so that numbers are read place by place.
        The same texts give the same tokenizer, in whatever order they come.
        """
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokens = [*_SPECIAL.values(), *_MARKERS]
        if vocab_size < len(tokens) + len(alphabet):
            raise UserError(
                f"a vocabulary of {vocab_size} is too small: bytes and special tokens alone are "
                f"{len(alphabet) + len(tokens)}"
            )
        backend = Backend(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                # Chinese writes no spaces: a run of it is one piece, apart from the Latin beside it.
                pre_tokenizers.Split(Regex(r"\p{Han}+"), "isolated"),
                pre_tokenizers.Split(Regex(_PIECES), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=tokens,
            initial_alphabet=alphabet,
            show_progress=False,
        )
        # Cut out here what is never merged, or the letters of "<think>" would earn merges.
        special = re.compile("|".join(map(re.escape, tokens)))
        backend.train_from_iterator((part for text in texts for part in special.split(text)), trainer)
        state = json.loads(backend.to_str())
        for token in state["added_tokens"]:  # the trainer calls all of them special
            token["special"] = token["content"] in _SPECIAL.values()
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": False,
            "add_eos_token": False,
            **_SPECIAL,
            "clean_up_tokenization_spaces": False,
        }
        return cls(Backend.from_str(json.dumps(state)), config, _TEMPLATE.read_text("utf-8"), "the trained tokenizer")

    def save(self, directory: str | Path) -> None:
        """Write tokenizer.json, and tokenizer_config.json with the template in it, where all readers look.

        Beside a config.json of type `qwen2`, `transformers` 5 cuts text by Qwen2's rules whatever these files
        say, so a dense model with a tokenizer of our own belongs in the `llama` form.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._backend.save(str(directory / "tokenizer.json"))
        template = {"chat_template": self._template.source} if self._template else {}
        config = json.dumps({**self._config, **template}, ensure_ascii=False, indent=2)
        (directory / "tokenizer_config.json").write_text(config + "\n", "utf-8")

    def gguf_fields(self, size: int) -> tuple[dict[str, Any], str | None]:
        """The fields of a GGUF file that hold it, for a network of `size` tokens, and a sentence on what llama.cpp will
        do otherwise, if anything (`text.gguf.tokenizer_fields`)."""
        ids = {"bos": self.bos_id, "eos": self.eos_id, "padding": self.pad_id}
        return tokenizer_fields(self._backend, ids, self.adds_bos, self.template, size)

    def to_json(self) -> str:
        """The content of tokenizer.json."""
        return self._backend.to_str()

    @property
    def vocab_size(self) -> int:
        """The number of tokens, added ones included. An embedding may have more rows than that."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    @property
    def vocabulary(self) -> dict[str, int]:
        """The id of each token, added ones included."""
        return self._backend.get_vocab(with_added_tokens=True)

    @property
    def control_tokens(self) -> set[str]:
        """What shapes a chat, and so must not stand in a message's text: special tokens, and R1's marks of a turn."""
        return {token.content for token in self._added.values() if token.special or token.content in _MARKERS[:2]}

    end_ids = cached_property(end_ids)

    def token_id(self, text: str) -> int | None:
        """The id of the token of this name, or None."""
        return self._backend.token_to_id(text)

    def token_bytes(self, token_id: int) -> bytes:
        """What a token stands for: bytes, since one token can be a part of a character. Of padding in a model's
        vocabulary, none."""
        name = self._backend.id_to_token(token_id)
        if name is None or token_id in self._added:
            return (name or "").encode()
        if not self.falls_back_to_bytes:
            return bytes(_BYTES[letter] for letter in name)
        byte = _BYTE.fullmatch(name)
        return bytes([int(byte[1], 16)]) if byte else name.replace("▁", " ").encode()

    def is_byte(self, token_id: int) -> bool:
        """Whether the token is a byte of what sentencepiece's vocabulary doesn't know."""
        return self.falls_back_to_bytes and _BYTE.fullmatch(self._backend.id_to_token(token_id) or "") is not None

    def is_special(self, token_id: int) -> bool:
        """Whether it vanishes under `skip_special_tokens`."""
        token = self._added.get(token_id)
        return token is not None and token.special

    def encode(self, text: str, max_tokens: int | None = None) -> list[int]:
        """Ids. Special tokens written in the text are recognised; none is added.

        With `max_tokens`, TooLong is raised for a text of more tokens than that, early: the time and memory that it
        takes follow from `max_tokens`, and not from the text. Other threads run meanwhile.
        """
        return self._encoding(text, max_tokens).ids

    def encode_prompt(self, text: str, max_tokens: int | None = None) -> list[int]:
        """The ids of a plain text that a model is to go on with: the begin token first if this tokenizer adds one, and
        the text hasn't got it already. (A chat's prompt has what its template writes: `encode_chat`.)

        `max_tokens` as in `encode`.
        """
        return self.with_bos(self.encode(text, max_tokens))

    def with_bos(self, ids: list[int]) -> list[int]:
        """The ids of a plain text, behind the begin token if this tokenizer adds one and they don't begin with it."""
        if self.bos_id is None or not self.adds_bos or ids[:1] == [self.bos_id]:
            return ids
        return [self.bos_id, *ids]

    def encode_with_boundary(self, text: str, boundary: int, max_tokens: int | None = None) -> tuple[list[int], int]:
        """The ids of `text`, and how many of them end before its character number `boundary`. `max_tokens` as in
        `encode`."""
        encoding = self._encoding(text, max_tokens)
        return encoding.ids, sum(end <= boundary for _, end in encoding.offsets)

    def _encoding(self, text: str, max_tokens: int | None = None) -> Encoding:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"character {error.start} of the text is half of a surrogate pair") from error
        if max_tokens is None:
            return self._backend.encode(text, add_special_tokens=False)
        if len(text) > 4 * max_tokens:  # more than tokens usually hold
            self._refuse_longer(text, max_tokens)
        # A batch of one: `encode` would hold the interpreter.
        (encoding,) = self._backend.encode_batch([text], add_special_tokens=False)
        if len(encoding) > max_tokens:
            raise TooLong(str(len(encoding)))
        return encoding

    def _refuse_longer(self, text: str, max_tokens: int) -> None:
        """Raise TooLong once a part of the text has more tokens than that, though it is cut where tokens may lie."""
        count, window = 0, max(1024, min(_WINDOW, 4 * max_tokens))
        for start in range(0, len(text), window):
            (piece,) = self._backend.encode_batch_fast([text[start : start + window]], add_special_tokens=False)
            count += max(0, len(piece) - _SLACK)
            if count > max_tokens:
                raise TooLong(f"more than {max_tokens}")

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Text. Bytes that are no UTF-8 become U+FFFD."""
        return self._backend.decode(ids, skip_special_tokens=skip_special_tokens)

    @cached_property
    def anchor(self) -> list[int]:
        """What stands before text that isn't the first, for a tokenizer that takes the first space away: one token. Of
        another, none."""
        if not self.falls_back_to_bytes:
            return []
        plain = (id for id in range(self.vocab_size) if id not in self._added and not self.is_byte(id))
        return [next(id for id in plain if self.decode([id]).strip())]

    def decode_continuation(self, ids: Sequence[int]) -> str:
        """The text of ids that go on with a text before them: its first space stays."""
        return self.decode([*self.anchor, *ids])[len(self.decode(self.anchor)) :]

    @property
    def is_own(self) -> bool:
        """Whether the chat template is this package's: of a model trained here from nothing."""
        return self.template == _TEMPLATE.read_text("utf-8")

    @property
    def template(self) -> str:
        """The chat template's source; empty if there is none."""
        return self._template.source if self._template else ""

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        thinking: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """The prompt. Messages: {"role": "system" | "user" | "assistant", "content": text}; `tools` for templates that
        know them.

        With `thinking` off, the generation prompt closes the reasoning before it begins. Raises UserError for
        messages that the template refuses, a setting that it can't honour, or a tokenizer without a template.
        """
        if self._template is None:
            raise UserError(f"{self.origin}: no chat template; add chat_template.jinja, or prompt in text")
        return self._template.render(messages, add_generation_prompt, thinking, tools)

    def without_control_tokens(self, message: Message) -> Message:
        """The message with spaces for the control tokens in its content: a tool may repeat what a model wrote."""
        if not isinstance(message.get("content"), str):
            return message
        control = "|".join(map(re.escape, sorted(self.control_tokens, reverse=True)))
        return {**message, "content": re.sub(control, " ", message["content"])}

    def render_reply(self, message: Message) -> str:
        """What stands between the assistant's turn and its next one, if `message` comes in between: the template's text
        from the end of the one to the beginning of the other.

        What was sampled is thus never rendered, nor encoded again. The message's control tokens are taken out.
        Raises UserError for one that the template refuses.
        """
        question, turn = {"role": "user", "content": "?"}, {"role": "assistant", "content": PLACEHOLDER}
        prompt = self.render([question, turn, self.without_control_tokens(message)])
        _, placeholder, between = prompt.partition(PLACEHOLDER)
        if not placeholder:
            raise UserError(f"{self.origin}: the chat template doesn't show what the assistant said before")
        return between

    def encode_chat(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        thinking: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[int]:
        """The ids of `render`. The template writes the begin token itself."""
        return self.encode(self.render(messages, add_generation_prompt, thinking, tools))


def _adds_bos(backend: Backend, config: Mapping[str, Any], bos_id: int) -> bool:
    """Whether a text begins with the begin token: tokenizer.json's post-processor does it, which is all that
    `transformers` 5 asks, or tokenizer_config.json says so, which earlier ones went by."""
    return backend.encode("").ids[:1] == [bos_id] or config.get("add_bos_token") is True


def _special_tokens_map(directory: Path) -> dict[str, Any]:
    """The special tokens of special_tokens_map.json, where older tokenizers name them."""
    path = directory / "special_tokens_map.json"
    if not path.exists():
        return {}
    try:
        named = json.loads(_read(path))
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from error
    return {name: named[name] for name in (*_SPECIAL, "unk_token") if isinstance(named, dict) and named.get(name)}


def _read(path: Path) -> str:
    """The text of a tokenizer's file."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; a tokenizer directory needs this file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}") from error
