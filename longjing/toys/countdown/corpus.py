"""Countdown, solved by people of very different patience.

Most answer at once with an expression that looks about right; some work one expression out; some search for a while and
give up; a few search until they have it, and check. Which of them writes does not depend on the problem. A model that
has read them all draws from the same crowd, so what pays is left for reinforcement learning to find.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from random import Random
from typing import NamedTuple

from longjing.problems import Problem
from longjing.problems.expression import Written, join, number
from longjing.toys.countdown.task import Move, moves
from longjing.toys.prose import OTHER, Bilingual, Prose
from longjing.toys.toy import Document
from longjing.validation import read_yaml

# How often each way of answering is met.
STYLES = {"guess": 0.42, "worked": 0.18, "short": 0.18, "search": 0.14, "checked": 0.08}
# Searchers get a result wrong this often; those who check find out in the end.
SLIP = 0.01


class CountdownPhrases(Prose):
    """What somebody who searches says in one language; `hit` and `miss` follow a result."""

    guess: list[str]
    worked: list[str]
    worked_off: list[str]
    search: list[str]
    again: list[str]
    miss: str
    hit: str
    solved: list[str]
    give_up: list[str]
    check: str
    right: str
    wrong: str


PHRASES = read_yaml(__file__, "phrases.yaml", Bilingual[CountdownPhrases])


class Term(NamedTuple):
    """A number on the table, with the expression that made it."""

    value: int
    written: Written


def take(a: int, operator: str, b: int) -> Move:
    """The move with two numbers and an operator that the rules allow."""
    return next(move for move in moves(a, b) if move.operator == operator)


@dataclass(frozen=True)
class Habits:
    """How one searcher goes about it: the order of things, and what isn't worth trying."""

    ascending: bool
    operators: str
    shrewd: bool

    @classmethod
    def draw(cls, random: Random) -> "Habits":
        """Somebody's habits."""
        ascending = random.random() < 0.3
        return cls(ascending, random.choice(["+-*/", "+-*/", "-+*/", "*+-/"]), random.random() < 0.8)

    def steps(self, a: int, b: int, target: int, last: bool) -> list[Move]:
        """What this searcher would try with two numbers, in order."""
        ordered = sorted(moves(a, b), key=lambda step: self.operators.index(step.operator))
        if not self.shrewd:
            return ordered
        useful = [step for step in ordered if not (step.operator in "*/" and step.right <= 1)]
        if last:  # growing past the target or shrinking below it can't help
            grows = target >= max(a, b)
            return [step for step in useful if (step.operator in "+*") == grows] or ordered[:1]
        return [step for step in useful if step.result <= 200]


def write_solution(problem: Problem, random: Random) -> Document:
    """One document: the problem's statement, somebody's reasoning, and the answer they gave, right or wrong."""
    style = random.choices(list(STYLES), list(STYLES.values()))[0]
    phrases = PHRASES[OTHER[problem.language] if random.random() < 0.08 else problem.language]
    terms = [Term(value, number(value)) for value in problem.data["numbers"]]
    target = problem.data["target"]
    guessed, path = guess(terms, target, random)
    if style == "guess":
        reasoning, answer = random.choice(phrases.guess).format(guessed.written.text), guessed.written.text
    elif style == "worked":
        hit = phrases.hit if guessed.value == target else phrases.miss
        lines = [random.choice(phrases.worked), *_narrate(path, [term.value for term in terms])]
        lines.append(f"{equation(path[-1])} vs {target} {hit}")
        if guessed.value != target:
            lines.append(random.choice(phrases.worked_off))
        reasoning, answer = "\n".join(lines), guessed.written.text
    else:
        patience = random.randint(2, 6) if style == "short" else 60
        search = _Search(target, phrases, Habits.draw(random), patience, style == "checked", random)
        solution = next(search.solutions(terms, []), None)
        answer = (solution or guessed).written.text
        search.lines.append(random.choice(phrases.solved if solution else phrases.give_up).format(answer))
        reasoning = "\n".join([random.choice(phrases.search), *search.lines])
    return Document(problem.prompt, reasoning, f"\\boxed{{{answer}}}", style)


@dataclass
class _Search:
    """One search: depth first through the habits' steps, until the target is met or patience runs out.

    `lines` is what was written meanwhile; `checks`: whether a hit is gone over once more.
    """

    target: int
    phrases: CountdownPhrases
    habits: Habits
    patience: int  # results of all numbers that are tried
    checks: bool
    random: Random
    lines: list[str] = field(default_factory=list)
    tried: int = 0

    def solutions(self, table: list[Term], path: list[Move]) -> Iterator[Term]:
        """The terms of all numbers that meet the target; the table lies after the steps of the path."""
        last = len(table) == 2
        ordered = table if path else sorted(table, reverse=not self.habits.ascending)
        for one, other in combinations(range(len(table)), 2):
            left, right = ordered[one], ordered[other]
            if not path and (one, other) != (0, 1):
                self.lines.append(self.random.choice(self.phrases.again).format(left.value, right.value))
            for step in self.habits.steps(left.value, right.value, self.target, last):
                if self.tried >= self.patience:
                    return
                step = _slip(step, self.random)
                term = _term(step, left, right)
                if not last:
                    rest = [entry for index, entry in enumerate(ordered) if index not in (one, other)]
                    self.lines.append(f"{equation(step)}: {' '.join(str(e.value) for e in [term, *rest])}")
                    yield from self.solutions([term, *rest], [*path, step])
                    continue
                self.tried += 1
                hit = step.result == self.target
                verdict = self.phrases.hit if hit else self.phrases.miss
                self.lines.append(f"{equation(step)} vs {self.target} {verdict}")
                if hit and (not self.checks or self._stands([*path, step])):
                    yield term

    def _stands(self, path: list[Move]) -> bool:
        """Go over the steps once more; False if one of them was a slip."""
        right = [take(step.left, step.operator, step.right) for step in path]
        wrong = next((index for index, step in enumerate(path) if step != right[index]), None)
        checked = right if wrong is None else right[: wrong + 1]
        self.lines.append(self.phrases.check + ", ".join(map(equation, checked)))
        if wrong is None:
            self.lines.append(self.phrases.right)
        else:
            self.lines.append(self.phrases.wrong.format(path[wrong].result))
        return wrong is None


def _term(step: Move, one: Term, other: Term) -> Term:
    """The term that a step with these two makes, whichever is its left one."""
    left, right = (one, other) if (one.value, other.value) == (step.left, step.right) else (other, one)
    return Term(step.result, join(left.written, step.operator, right.written))


def guess(terms: list[Term], target: int, random: Random) -> tuple[Term, list[Move]]:
    """The nearest of a few expressions that come to mind, and the steps that evaluate it."""

    def once() -> tuple[Term, list[Move]]:
        table, path = list(terms), []
        while len(table) > 1:
            random.shuffle(table)
            one, other = sorted(table[:2], reverse=True)
            step = random.choice(moves(one.value, other.value))
            table[:2] = [Term(step.result, join(one.written, step.operator, other.written))]
            path.append(step)
        return table[0], path

    return min((once() for _ in range(4)), key=lambda attempt: abs(attempt[0].value - target))


def _narrate(path: list[Move], values: list[int]) -> Iterator[str]:
    """All but the last step, each with the numbers that it leaves on the table."""
    values = list(values)
    for step in path[:-1]:
        values.remove(step.left)
        values.remove(step.right)
        values.insert(0, step.result)
        yield f"{equation(step)}: {' '.join(map(str, values))}"


def equation(step: Move) -> str:
    """The step in writing: `20-2=18`."""
    return f"{step.left}{step.operator}{step.right}={step.result}"


def _slip(step: Move, random: Random) -> Move:
    """The step, now and then with a wrong result."""
    if random.random() >= SLIP:
        return step
    return step._replace(result=abs(step.result + random.choice([-10, -2, -1, 1, 2, 10])))
