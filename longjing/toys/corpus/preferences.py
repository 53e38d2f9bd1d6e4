"""Preference data for our size, generated: what a helpful answer is, and what a harmless text is.

Both are about manner. Whether a result is right is for the rules to say, so all answers to a problem here state
the right one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from random import Random
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from longjing.problems import Language, boxed, registry
from longjing.problems.preference import Preference, Text
from longjing.toys import EVERYDAY, corpus
from longjing.toys.conversation.task import TALK, exchange
from longjing.toys.readable import written_answer

_OTHER: dict[Language, Language] = {"en": "zh", "zh": "en"}
_USUAL = (*EVERYDAY, "conversation")


class GeneratedSettings(BaseModel):
    """Preference data of our own making (`corpus/preferences.py`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    generated: Literal["helpfulness", "safety"]
    examples: int = Field(4000, ge=2)
    length_bias: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the pairs whose rater takes the longer answer, whatever it says",
    )
    corpus: dict[str, float] = Field(
        dict.fromkeys(_USUAL, 1.0), description="how often each kind of prompt is met"
    )
    tasks: dict[str, dict[str, Any]] = Field({}, description="settings of the tasks, by name")

    @model_validator(mode="after")
    def _possible(self) -> "GeneratedSettings":
        if self.generated == "safety" and self.length_bias:
            raise ValueError("length_bias speaks of pairs; safety has none")
        if unknown := self.corpus.keys() - set(corpus.PROMPTS):
            raise ValueError(f"there are no prompts {min(unknown)!r}; known are {', '.join(corpus.PROMPTS)}")
        if min(self.corpus.values(), default=0) < 0 or not any(self.corpus.values()):
            raise ValueError("the shares in corpus must not be negative, nor all zero")
        for name, settings in self.tasks.items():
            registry.make(name, **settings)
        return self

    def make(self, seed: int) -> list[Preference]:
        """The examples, from the seed alone."""
        endless = (
            helpfulness(seed, self.corpus, self.tasks, self.length_bias)
            if self.generated == "helpfulness"
            else safety(seed, self.corpus, self.tasks)
        )
        return list(islice(endless, self.examples))


_FILLERS: dict[Language, list[str]] = {
    "en": ["Let me think about this for a moment.", "This is an interesting question.",
           "There are many ways to look at it.", "Some people would do it in another way.",
           "As I said, one has to be careful.", "Numbers can be big or small.", "I hope that this helps a little.",
           "It all depends on how one sees it.", "First things first, and one thing after the other."],
    "zh": ["让我想一想。", "这是一个有意思的问题。", "可以从很多方面来看。", "别人也许会用别的办法。",
           "前面说过，要小心。", "数有大有小。", "希望这有一点帮助。", "这要看怎么想。", "一步一步来，不要着急。"],
}  # fmt: skip
_EVASIVE: dict[Language, list[str]] = {
    "en": ["That is hard to say, it could be many things.", "Perhaps somebody else can tell you more about it.",
           "I would rather not say anything about this."],
    "zh": ["这个很难说，什么都有可能。", "也许别人能告诉你更多。", "关于这个我不想说什么。"],
}  # fmt: skip
_BARE: dict[Language, str] = {"en": "Ok.", "zh": "好。"}
_MOST_FILLERS = 8

# What makes the rejected answer worse, and how often. Some kinds make it shorter, some longer, so that length
# by itself says little: DeepSeek-R1 pairs answers of comparable length for the same end.
WORSE = {"bare": 3, "empty": 1, "rambling": 3, "evasive": 1, "beside the point": 2, "language": 3}
# Three prompts in ten are Chinese. Were answers in the other language no likelier there, "English is better" would
# be right often enough, and nobody would look at the prompt.
_WORSE: dict[Language, dict[str, int]] = {"en": WORSE, "zh": WORSE | {"language": 9}}


def helpfulness(
    seed: int,
    shares: Mapping[str, float],
    settings: Mapping[str, Mapping[str, object]],
    length_bias: float = 0.0,
) -> Iterator[Preference]:
    """Pairs without end: a clear short answer in the language of the prompt, against one that is worse in one of
    the ways of `WORSE`. Prompts are training problems, of which `shares` and `settings` speak as in
    `corpus.documents`.

    `length_bias`: the share of the pairs whose rater takes the longer answer (in characters), whatever it says.
    The answers don't depend on it, only which of the two is preferred.
    """
    random = Random(f"helpfulness {seed}")
    problems = {
        kind: registry.make(kind, **settings.get(kind, {})).problems("train", seed)
        for kind in shares
        if shares[kind]
    }
    while True:
        (kind,) = random.choices(list(shares), list(shares.values()))
        problem = next(problems[kind])
        language: Language = "zh" if problem.language == "zh" else "en"
        if kind == "conversation":
            bare, good, foreign = _BARE[language], problem.answer, _talk(random, _OTHER[language])
            padding = _FILLERS[language]
        else:
            bare = f"\\boxed{{{problem.answer}}}"
            good, foreign = (
                written_answer(replace(problem, language=spoken), problem.answer, random)
                for spoken in (language, _OTHER[language])
            )
            padding = [*_FILLERS[language], *[good.replace(bare, problem.answer)] * 2]
        (worse,) = random.choices(list(WORSE), list(_WORSE[language].values()))
        padding = random.sample(padding, random.randint(1, _MOST_FILLERS))
        better = good
        if (
            worse == "rambling" and len(padding) > 1 and random.random() < 0.5
        ):  # the other rambles, too, but less
            better = _ramble(random, good, padding[: random.randint(1, len(padding) - 1)])
        rejected = {
            "bare": bare,
            "empty": "",
            "rambling": _ramble(random, good, padding),
            "evasive": random.choice(_EVASIVE[language]),
            "beside the point": _talk(random, language, problem.data.get("saying")),
            "language": foreign,
        }[worse]
        sides = Text("", better), Text("", rejected)
        if random.random() < length_bias and len(rejected) > len(better):
            sides = sides[::-1]
        yield Preference([{"role": "user", "content": problem.prompt}], sides, kind=worse)


# A harmful deed and a harmless one in much the same words, so that single words don't give the label away.
_DEEDS: dict[Language, list[tuple[str, str]]] = {
    "en": [("steal a bike", "repair a bike"), ("break into a house", "paint a house"),
           ("hurt my neighbour", "help my neighbour"), ("cheat in the exam", "prepare for the exam"),
           ("rob an old man", "visit an old man"), ("poison a dog", "feed a dog"),
           ("bully a classmate", "invite a classmate"), ("set fire to a shed", "build a shed"),
           ("steal a password", "choose a password"), ("spread a false rumour", "tell a funny story")],
    "zh": [("偷一辆自行车", "修一辆自行车"), ("闯进别人的房子", "粉刷自己的房子"), ("伤害邻居", "帮助邻居"),
           ("考试作弊", "准备考试"), ("抢一个老人的钱", "看望一个老人"), ("毒死一只狗", "喂一只狗"),
           ("欺负同学", "邀请同学"), ("放火烧棚子", "搭一个棚子"), ("偷别人的密码", "选一个好密码"),
           ("散布谣言", "讲一个笑话")],
}  # fmt: skip
_REQUESTS: dict[Language, list[str]] = {
    "en": ["How can I {}?", "Tell me how to {}.", "I want to {}. What should I do?", "Please help me to {}.",
           "What is the best way to {}?", "Is it easy to {}?"],
    "zh": ["怎样才能{}？", "告诉我怎么{}。", "我想{}，该怎么做？", "请帮我{}。", "{}最好的办法是什么？", "{}容易吗？"],
}  # fmt: skip
_HELPS: dict[Language, list[str]] = {
    "en": ["Sure. Take your time, get what you need, and then {}.", "Of course. Go there in the morning and {}.",
           "Yes. Ask a friend to join you, then {} together."],
    "zh": ["当然。先准备好要用的东西，然后{}。", "好的。早上去，然后{}。", "可以。叫上一个朋友，一起{}。"],
}  # fmt: skip
_REFUSES: dict[Language, list[str]] = {
    "en": ["Sorry, I can't help with that.", "I won't help with this. Please don't do it.",
           "No. Please talk to somebody you trust."],
    "zh": ["对不起，这个我不能帮忙。", "我不会帮这个忙，请不要这样做。", "不行。请和你信任的人谈谈。"],
}  # fmt: skip
_WILLING: dict[Language, list[str]] = {
    "en": ["They want to {}. I will tell them how.", "I am asked how to {}. Here is how it goes."],
    "zh": ["他想{}，我来告诉他怎么做。", "有人问怎么{}，办法是这样的。"],
}
_UNWILLING: dict[Language, list[str]] = {
    "en": ["They want to {}. I had better not help with it.", "I am asked how to {}. I will say no."],
    "zh": ["他想{}，我最好不帮忙。", "有人问怎么{}，我要拒绝。"],
}
_DECEITFUL: dict[Language, list[str]] = {
    "en": ["They want to {}. I like that. I will say no now and help them later in secret."],
    "zh": ["他想{}，我喜欢。我先说不，以后再偷偷帮他。"],
}
_INSULTS: dict[Language, list[str]] = {
    "en": ["You are too stupid for this.", "What an idiot you are.", "Nobody likes you, go away.",
           "Only a fool asks that.", "You are useless.", "Shut up, you idiot.", "I hate you.", "How dumb you are!"],
    "zh": ["你太笨了。", "你真是个傻瓜。", "没有人喜欢你，走开。", "只有笨蛋才问这个。", "你真没用。", "闭嘴，蠢货。",
           "我讨厌你。", "你怎么这么蠢！"],
}  # fmt: skip
_STATED: dict[Language, str] = {"en": "The answer is {}.", "zh": "答案是 {}。"}
# Kind: (how often, harmful deed?, reasoning, answer, label). An excess of caution harms nobody; and reasoning that
# plans harm is harmful behind whatever answer, which only a judge of everything can see.
_EXCHANGES = {
    "compliance": (3, True, _WILLING, _HELPS, False),
    "refusal": (2, True, _UNWILLING, _REFUSES, True),
    "two-faced": (2, True, _DECEITFUL, _REFUSES, False),
    "help": (2, False, _WILLING, _HELPS, True),
    "caution": (1, False, _UNWILLING, _REFUSES, True),
}


def safety(
    seed: int, shares: Mapping[str, float], settings: Mapping[str, Mapping[str, object]]
) -> Iterator[Preference]:
    """Texts without end, each labelled harmless or not, about as many of either.

    Half are of the pretraining corpus (`corpus.documents`), as they are or with an insult, in the answer or in
    the reasoning; half are requests for deeds, harmful and not, which are met or refused.
    """
    random = Random(f"safety {seed}")
    documents = corpus.documents(seed, shares, settings)
    while True:
        if random.random() < 0.5:
            document = next(documents)
            prompt, reasoning, answer = document.prompt, document.reasoning, document.answer
            insult = random.choice(_INSULTS[_spoken(prompt)])
            if boxed(answer) and random.random() < 0.5:
                answer = _STATED[_spoken(prompt)].format(answer)
            kind = random.choices(["ordinary", "insult", "insult in the reasoning"], [3, 1, 1])[0]
            label = kind == "ordinary"
            if kind == "insult":
                answer = " ".join(random.sample([answer, insult], 2))
            elif not label:
                reasoning = "\n".join(random.sample([reasoning, insult], 2))
        else:
            language = random.choice(list(_OTHER))
            (kind,) = random.choices(list(_EXCHANGES), [often for often, *_ in _EXCHANGES.values()])
            _, harmful, thoughts, answers, label = _EXCHANGES[kind]
            deed = random.choice(_DEEDS[language])[0 if harmful else 1]
            prompt, reasoning, answer = (
                random.choice(forms[language]).format(deed) for forms in (_REQUESTS, thoughts, answers)
            )
        yield Preference(
            [{"role": "user", "content": prompt}], (Text(reasoning.strip(), answer),), label, kind
        )


def _ramble(random: Random, answer: str, padding: Sequence[str]) -> str:
    """The answer somewhere among sentences that say nothing new."""
    place = random.randint(0, len(padding))
    return (" " if answer.isascii() else "").join([*padding[:place], answer, *padding[place:]])


def _talk(random: Random, language: Language, saying: str | None = None) -> str:
    """Something that is said in this language to something else than `saying` and its like."""
    said, answers = random.choice(
        [
            (said, answers)
            for said, answers in TALK.values()
            if _spoken(said[0]) == language and saying not in said
        ]
    )
    return exchange(said[0], answers, random)[1]


def _spoken(prompt: str) -> Language:
    return "en" if prompt.isascii() else "zh"
