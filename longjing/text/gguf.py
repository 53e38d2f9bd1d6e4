"""The tokenizer in a GGUF file: a vocabulary with its merges (`gpt2`), or sentencepiece's with scores (`llama`).

A file names the rule by which text is cut before merging (`tokenizer.ggml.pre`), and doesn't hold it. The rules here
are those of the models' own tokenizer.json.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from longjing.errors import UserError
from longjing.gguf import GGUF

_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 2, 3, 4, 6  # kinds of tokens

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)
_DEEPSEEK_CODER = ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}")
# Each rule cuts what those before it left whole. None: GPT-2's own, which byte-level pre-tokenizers have.
_CUTS: dict[str, Sequence[str] | None] = {
    "default": None, "gpt-2": None,
    "smollm": (r"\p{N}",), "starcoder": (r"\p{N}",), "refact": (r"\p{N}",), "command-r": (r"\p{N}",),
    "llama3": (_LLAMA3,), "llama-v3": (_LLAMA3,), "llama-bpe": (_LLAMA3,),
    "qwen2": (_QWEN2,), "deepseek-r1-qwen": (_QWEN2,),
    "deepseek-v3": _DEEPSEEK_V3, "deepseek-coder": _DEEPSEEK_CODER,
}  # fmt: skip
_THEN_GPT2 = {"smollm", "starcoder", "refact", "command-r"}
_COMPOSED = {"qwen2"}  # letters and accents are joined first (NFC)
_IGNORES_MERGES = {"llama3", "llama-v3", "llama-bpe"}  # a piece that is a token isn't built up by merges


def read_tokenizer(file: GGUF) -> tuple[Backend, dict[str, Any], str | None]:
    """The tokenizer, what its tokenizer_config.json would hold, and the chat template if there is one.

    Raises UserError for a file without a tokenizer, and for one of a kind that isn't read.
    """
    fields = {name.removeprefix("tokenizer.ggml."): value for name, value in file.fields.items()}
    tokens, kinds = fields.get("tokens"), fields.get("token_type")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise UserError(f"{file.path}: no vocabulary in it (tokenizer.ggml.tokens)")
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        kinds = [1] * len(tokens)
    embedded = file.tensors["token_embd.weight"].shape[0] if "token_embd.weight" in file.tensors else len(tokens)
    if len(tokens) > embedded:
        raise UserError(f"{file.path}: its vocabulary has {len(tokens):,} tokens, and the network only {embedded:,}")
    match fields.get("model"):
        case "gpt2":
            backend = _byte_level(file, fields, tokens)
        case "llama":
            backend = _sentencepiece(file, fields, tokens, kinds)
        case other:
            raise UserError(f"{file.path}: the tokenizer {other!r} is not supported; known: gpt2, llama")
    for token, kind in zip(tokens, kinds, strict=True):
        if kind in (_CONTROL, _USER_DEFINED, _UNKNOWN):
            added = AddedToken(token, special=kind != _USER_DEFINED, normalized=False)
            (backend.add_special_tokens if added.special else backend.add_tokens)([added])
    config: dict[str, Any] = {"add_bos_token": bool(fields.get("add_bos_token", fields["model"] == "llama"))}
    for name, key in (("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding")):
        number = fields.get(f"{key}_token_id")
        if number is not None:
            if not isinstance(number, int) or not 0 <= number < len(tokens):
                raise UserError(f"{file.path}: its {name} is number {number!r} of {len(tokens):,} tokens")
            config[name] = tokens[number]
    template = file.fields.get("tokenizer.chat_template")
    return backend, config, template if isinstance(template, str) else None


def _byte_level(file: GGUF, fields: Mapping[str, Any], tokens: list[str]) -> Backend:
    rule = fields.get("pre", "default")
    if rule not in _CUTS:
        raise UserError(
            f"{file.path}: text is cut by the rule {rule!r}, which is not known here; known: {', '.join(_CUTS)}. "
            "Take the model's Hugging Face directory"
        )
    merges = fields.get("merges", [])
    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    try:
        backend = Backend(models.BPE(vocabulary, pairs, ignore_merges=rule in _IGNORES_MERGES))
    except Exception as error:  # the tokenizers' only kind
        raise UserError(f"{file.path}: its merges don't fit its vocabulary: {error}") from None
    cuts = _CUTS[rule]
    splits: list[Any] = [pre_tokenizers.Split(Regex(cut), "isolated") for cut in cuts or ()]
    gpt2 = cuts is None or rule in _THEN_GPT2
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=gpt2)]
    )
    if rule in _COMPOSED:
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(file: GGUF, fields: Mapping[str, Any], tokens: list[str], kinds: list[int]) -> Backend:
    scores = fields.get("scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise UserError(f"{file.path}: a vocabulary of sentencepiece needs a score for each token")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    mergeable = {token for token, kind in zip(tokens, kinds, strict=True) if kind == 1}
    # The best score is merged first. A token may come of several pairs: all of them are merges.
    merges = [
        (token[:cut], token[cut:])
        for token in sorted(mergeable, key=lambda token: (-scores[vocabulary[token]], vocabulary[token]))
        for cut in range(1, len(token))
        if token[:cut] in mergeable and token[cut:] in mergeable
    ]
    unknown = fields.get("unknown_token_id", 0)
    backend = Backend(
        models.BPE(vocabulary, merges, unk_token=tokens[unknown], fuse_unk=True, byte_fallback=_BYTE in kinds)
    )
    spaces: list[Any] = [normalizers.Replace(" ", "▁")]
    if fields.get("add_space_prefix", True):
        spaces.insert(0, normalizers.Prepend("▁"))
    backend.normalizer = normalizers.Sequence(spaces)
    strip = [decoders.Strip(" ", 1, 0)] if fields.get("add_space_prefix", True) else []
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return backend
