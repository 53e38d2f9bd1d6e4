"""The tokenizer in a GGUF file: a vocabulary with its merges (`gpt2`), or sentencepiece's with scores (`llama`).

A file names the rule by which text is cut before merging (`tokenizer.ggml.pre`), and doesn't hold it. The rules here
are those of the models' own tokenizer.json.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from longjing.errors import UserError
from longjing.gguf import GGUF

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)  # kinds of tokens

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
    adds_bos = bool(fields.get("add_bos_token", fields["model"] == "llama"))
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": adds_bos}
    for name, key in (("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding")):
        number = fields.get(f"{key}_token_id")
        if number is not None:
            if not isinstance(number, int) or not 0 <= number < len(tokens):
                raise UserError(f"{file.path}: its {name} is number {number!r} of {len(tokens):,} tokens")
            config[name] = tokens[number]
    if adds_bos and (bos := config.get("bos_token")):
        pair = f"{bos} $A {bos}:1 $B:1"
        backend.post_processor = processors.TemplateProcessing(f"{bos} $A", pair, [(bos, fields["bos_token_id"])])
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
    if not all(isinstance(merge, str) for merge in merges):
        raise UserError(f"{file.path}: its merges are no texts (tokenizer.ggml.merges)")
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


def tokenizer_fields(
    backend: Backend, ids: Mapping[str, int | None], adds_bos: bool, template: str, size: int
) -> tuple[dict[str, Any], str | None]:
    """The fields of a GGUF file that hold this tokenizer, for a network of `size` tokens; and, where llama.cpp will
    make other tokens of some text than the tokenizer does, what says so.

    `ids`: the numbers of the tokens `bos`, `eos` and `padding`.
    """
    state = json.loads(backend.to_str())
    names, kinds = _tokens(backend, size)
    merges = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in state["model"]["merges"]]
    values: dict[str, Any] = {"tokens": names, "token_type": kinds}
    if state["model"]["byte_fallback"]:
        values |= {"model": "llama", "scores": _scores(names, merges), "add_space_prefix": _adds_space(state)}
        normal = {name for name, kind in zip(names, kinds, strict=True) if kind == _NORMAL}
        note = _note_on_merges(merges, normal)
        if (unknown := state["model"]["unk_token"]) is not None:
            values["unknown_token_id"] = backend.token_to_id(unknown)
    else:
        rule = _rule(state)
        values |= {"model": "gpt2", "pre": rule or "default", "merges": [" ".join(merge) for merge in merges]}
        note = None if rule else (
            "llama.cpp has no rule that cuts text as this tokenizer does, so the file says `default`: what the model "
            "writes is read rightly, but prompts may be cut into other tokens than it was taught with"
        )  # fmt: skip
    note = "; ".join(filter(None, (note, _note_on_normalizers(state)))) or None
    values |= {f"{name}_token_id": number for name, number in ids.items() if number is not None}
    values |= {"add_bos_token": adds_bos, "add_eos_token": False}
    fields = {f"tokenizer.ggml.{name}": value for name, value in values.items()}
    return fields | ({"tokenizer.chat_template": template} if template else {}), note


def _tokens(backend: Backend, size: int) -> tuple[list[str], list[int]]:
    """Every token's name and kind; numbers that no token has are unused."""
    added, model = backend.get_added_tokens_decoder(), backend.model
    names, kinds = [], []
    for number in range(size):
        name = backend.id_to_token(number)
        if name is None:
            name, kind = f"[PAD{number}]", _UNUSED
        elif name == model.unk_token:
            kind = _UNKNOWN
        elif number in added:
            kind = _CONTROL if added[number].special else _USER_DEFINED
        else:
            kind = _BYTE if model.byte_fallback and name.startswith("<0x") and len(name) == 6 else _NORMAL
        names.append(name)
        kinds.append(kind)
    return names, kinds


def _scores(names: Sequence[str], merges: Sequence[Sequence[str]]) -> list[float]:
    """Sentencepiece's scores, the higher the sooner a token is put together; the merges only say the order."""
    order: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges, 1):
        order.setdefault(left + right, rank)
    return [-float(order.get(name, 0)) for name in names]


def _note_on_merges(merges: Sequence[Sequence[str]], normal: set[str]) -> str | None:
    """Llama.cpp puts together any two tokens whose text is a third one."""
    listed = {tuple(merge) for merge in merges}
    cuts = ((token[:cut], token[cut:]) for token in normal for cut in range(1, len(token)))
    if all(cut in listed for cut in cuts if cut[0] in normal and cut[1] in normal):
        return None
    return "llama.cpp puts tokens together by other rules than this vocabulary's, so it may cut some words otherwise"


def _note_on_normalizers(state: Mapping[str, Any]) -> str | None:
    """Llama.cpp cuts text as it stands, but for sentencepiece's spaces."""
    normalizer = state["normalizer"] or {}
    kinds = [part["type"] for part in normalizer.get("normalizers", [normalizer]) if part]
    if state["model"]["byte_fallback"]:
        kinds = [kind for kind in kinds if kind not in ("Prepend", "Replace")]
    return None if not kinds else (
        f"this tokenizer normalises text first ({', '.join(kinds)}), and llama.cpp doesn't: what isn't so already, "
        "accents written apart from their letters say, becomes other tokens there"
    )  # fmt: skip


def _adds_space(state: Mapping[str, Any]) -> bool:
    """Whether a space is put before the text, by the normalizer or by the pre-tokenizer."""
    prepends = '"Prepend"' in json.dumps(state["normalizer"])
    return prepends or (state["pre_tokenizer"] or {}).get("prepend_scheme", "never") != "never"


def _rule(state: Mapping[str, Any]) -> str | None:
    """The name of the rule by which this tokenizer cuts text; None for one of its own."""
    cutter = state["pre_tokenizer"] or {}
    cuts, gpt2 = [], False
    for part in cutter.get("pretokenizers", [cutter]):
        match part:
            case {"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated", "invert": False}:
                cuts.append(cut)
            case {"type": "Digits", "individual_digits": True}:
                cuts.append(r"\p{N}")
            case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": gpt2}:
                pass
            case _:
                return None
    same = [
        rule for rule, expected in _CUTS.items()
        if tuple(expected or ()) == tuple(cuts) and gpt2 == (expected is None or rule in _THEN_GPT2)
    ]  # fmt: skip
    composed = (state["normalizer"] or {}).get("type") == "NFC"
    return min(same, key=lambda rule: (rule == "default", (rule in _COMPOSED) != composed), default=None)
