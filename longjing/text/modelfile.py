"""The Modelfile by which Ollama takes a GGUF file: where it ends, how it is sampled, and its chat template in Go's form
where that can be had safely.

Nothing translates Jinja. What stands around each message is read off what the template writes of short conversations,
and taken only if, put together again, it is what the template writes of all of them.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from longjing.errors import UserError
from longjing.text.tokenizer import Tokenizer

_MARK = "⟦{}⟧"
_CONVERSATIONS = ["u", "su", "uau", "suau", "uauau", "suauau", "uu", "ua"]
_ROLES = {"s": "system", "u": "user", "a": "assistant"}


def modelfile(file: str, tokenizer: Tokenizer, ends: Iterable[str], parameters: Mapping[str, Any]) -> str:
    """The Modelfile beside the GGUF `file`. `ends`: the tokens that end a reply; `parameters`: what else is set."""
    lines = [f"FROM ./{file}"]
    template = go_template(tokenizer)
    if template is None:
        lines.append("# No TEMPLATE: this model's has no safe form in Go. Ollama may know it by the one in the file.")
    else:
        lines.append(f'TEMPLATE """{template}"""')
    lines += [f'PARAMETER stop "{end}"' for end in ends if '"' not in end]
    lines += [f"PARAMETER {name} {value}" for name, value in parameters.items()]
    return "\n".join(lines) + "\n"


def go_template(tokenizer: Tokenizer) -> str | None:
    """The chat template in the form that Ollama reads, or None if it has none that writes the same."""
    written = {roles: _rendered(tokenizer, roles) for roles in _CONVERSATIONS}
    if not written["u"] or not written["uau"]:
        return None
    bos = tokenizer.decode(tokenizer.with_bos([])) if tokenizer.adds_bos else ""  # llama.cpp writes it by itself
    for pieces in _candidates(written["u"], written["su"], written["uau"], written["ua"], bos):
        if all(text is None or _joined(roles, *pieces) == text for roles, text in written.items()):
            break
    else:
        return None
    begin, default, around, prompt = pieces
    begin = begin.removeprefix(bos)
    if any(mark in "".join([begin, default, prompt, *around.values()]) for mark in ("{{", "}}", '"""')):
        return None
    first = f'{{{{ if ne (index .Messages 0).Role "system" }}}}{default}{{{{ end }}}}' if default else ""
    cases = [f'if eq .Role "{_ROLES[role]}" }}}}{around[role].replace(_MARK, "{{ .Content }}")}' for role in around]
    turns = "{{ range .Messages }}{{ " + "{{ else ".join(cases) + "{{ end }}{{ end }}"
    return begin + first + turns + prompt


def _rendered(tokenizer: Tokenizer, roles: str) -> str | None:
    """What the template writes of a conversation whose messages say their place; None if it refuses it."""
    turns = [{"role": _ROLES[role], "content": _MARK.format(index)} for index, role in enumerate(roles)]
    try:
        return tokenizer.render(turns, add_generation_prompt=roles[-1] != "a")
    except UserError:
        return None


Pieces = tuple[str, str, dict[str, str], str]


def _candidates(one: str, system: str | None, two: str, answered: str | None, bos: str) -> Iterator[Pieces]:
    """What may stand at the beginning, there if no system message comes, around messages, and before a reply: for each
    place where what precedes a user's message may begin."""
    first, second, third = (_MARK.format(index) for index in range(3))
    before, _, after = one.partition(first)
    between, _, rest = two.partition(first)[2].partition(second)
    follows = rest.partition(third)[0]
    end = "" if answered is None else answered.partition(second)[2]
    if system is not None and first in system:
        head, _, tail = system.partition(first)
        gap = tail.partition(second)[0]
    else:
        head, gap = "", ""
    for cut in range(len(before) + 1):
        opening = before[cut:]
        if not follows.endswith(opening):
            continue
        closing = follows.removesuffix(opening) if opening else follows
        if answered is not None and closing != end:
            continue
        for turn in range(len(after) + 1):  # what ends a user's message, and what a reply begins with
            if not between.startswith(after[:turn]) or between[turn:] and not after[turn:].startswith(between[turn:]):
                continue
            around = {"u": opening + _MARK + after[:turn], "a": between[turn:] + _MARK + closing}
            start = before[:cut]
            if system is None:
                yield start, "", around, after[turn:]
                continue
            begin = len(bos) if start.startswith(bos) and head.startswith(bos) else 0
            around["s"] = head[begin:] + _MARK + gap.removesuffix(opening)
            yield start[:begin], start[begin:], around, after[turn:]


def _joined(roles: str, begin: str, default: str, around: Mapping[str, str], prompt: str) -> str | None:
    """What the Go template will write."""
    if not set(roles) <= around.keys():
        return None
    text = begin + ("" if roles[0] == "s" else default)
    text += "".join(around[role].replace(_MARK, _MARK.format(index)) for index, role in enumerate(roles))
    return text + ("" if roles[-1] == "a" else prompt)
