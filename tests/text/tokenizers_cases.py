"""Tokenizers of every kind that released models have, trained here on a few lines, as Hugging Face directories."""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from longjing.text.gguf import _CUTS

CORPUS = [
    "The capital of France is Paris. What is 12 + 345? It's 357, isn't it?\n\n  def f(x):\n\treturn x ** 2\n",
    "小明有12个苹果，给了小红5个。שלום עולם. Καλημέρα κόσμε. Привет, мир! año naïve über",
    "<|im_start|>user\nHello there, how are you today?<|im_end|>\n[INST] Hello [/INST] 1,000,000.5 10% of 2024",
] * 3
PIECES = [
    "Hello", " world", "the", "  ", "\n", "\n\n", "\r\n", "\t", "\0", "\x07", "é", "e\u0301", "ß",
    "ﬁ", "שלום", "مرحبا", "小明", "苹果", "東京タワー", "안녕", "😀", "👩\u200d👩\u200d👧", "🇩🇪", "❤️", "\u200b",
    "\u202e", "\ufeff", "\ufffd", "▁", "123", "½", "3.14", "1,000", "It's", "don't", "WE'LL",
    "def f(x):\n    return x", "{'a': [1, 2]}", "\\boxed{4}", "$x^2$", "//", "_", "<s>", "</s>",
    "<unk>", "<0x41>", "<|im_end|>", "<think>", "</think>", " ", ".", "...", "-", "𝔘𝔫𝔦", "𓀀",
    "a" * 40, "٣٤", "½",
]  # fmt: skip
TEMPLATES = {
    "chatml": "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\n"
    "You help.<|im_end|>\n{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "llama2": "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'system' %}<<SYS>>\n{{ m.content }}\n<</SYS>>\n\n"
    "{% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}",
}  # fmt: skip
BYTE_LEVEL = ["smollm", "qwen2", "llama-bpe", "deepseek-v3", "gpt-2"]
SENTENCEPIECE = ["llama", "mistral", "no-space"]


def strings(count: int, seed: int = 0) -> Iterator[str]:
    """Texts of every sort, with special tokens among them."""
    random = Random(seed)
    for _ in range(count):
        pieces = [random.choice(PIECES) for _ in range(random.randrange(9))]
        pieces += [chr(random.choice([random.randrange(0x20, 0x250), random.randrange(0xE000)])) for _ in range(2)]
        random.shuffle(pieces)
        yield random.choice(["", " "]).join(pieces).encode("utf-8", "ignore").decode()


def byte_level(rule: str, directory: Path) -> Path:
    """A tokenizer that cuts text by one of the rules; that of Llama 3 begins with its begin token."""
    backend = Backend(models.BPE(ignore_merges=rule == "llama-bpe"))
    if rule == "qwen2":
        backend.normalizer = normalizers.NFC()
    cuts: list[Any] = [pre_tokenizers.Split(Regex(cut), "isolated") for cut in _CUTS[rule] or ()]
    if rule == "smollm":
        cuts = [pre_tokenizers.Digits(individual_digits=True)]
    gpt2 = rule in ("smollm", "gpt-2")
    cuts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=gpt2))
    backend.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    backend.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=450, special_tokens=special, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_tokens(["<think>", "</think>"])
    if rule == "llama-bpe":
        backend.post_processor = _with_bos(0)
    return _save(backend, directory, "chatml", {"bos_token": "<s>", "eos_token": "<|im_end|>"})


def sentencepiece(kind: str, directory: Path) -> Path:
    """As Llama 2's tokenizer.json (a normalizer that writes `▁`), Mistral's (a Metaspace), and one that leaves the
    first space alone."""
    trained = Backend(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=420, show_progress=False))
    state = json.loads(trained.to_str())["model"]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *state["vocab"]]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys([*names, "▁▁", "▁▁▁▁"]))}
    # As in converted tokenizers, every pair whose text is a token is merged, in the tokens' order.
    tokens = ["▁▁", "▁▁▁▁", *("".join(pair) for pair in state["merges"])]
    merges = [(t[:cut], t[cut:]) for t in tokens for cut in range(1, len(t)) if {t[:cut], t[cut:]} <= vocabulary.keys()]
    backend = Backend(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    strip = [decoders.Strip(" ", 1, 0)]
    match kind:
        case "llama":
            backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        case "mistral":
            backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        case _:
            backend.normalizer, strip = normalizers.Replace(" ", "▁"), []
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.post_processor = _with_bos(1)
    return _save(backend, directory, "llama2", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


def _with_bos(number: int) -> Any:
    return processors.TemplateProcessing("<s> $A", "<s> $A <s>:1 $B:1", [("<s>", number)])


def _save(backend: Backend, directory: Path, template: str, tokens: dict[str, str]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    backend.save(str(directory / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATES[template], **tokens}
    (directory / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return directory


def directory_of(kind: str, root: Path) -> Path:
    """The tokenizer of one of the kinds."""
    return (byte_level if kind in BYTE_LEVEL else sentencepiece)(kind, root / kind)
