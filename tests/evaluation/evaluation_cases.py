"""A task that asks to double numbers, and what a model may answer."""

from collections.abc import Iterator

from longjing.problems import Completion, Problem, Split, Verdict, boxed


class Doubles:
    """Asks for 2n; the verifier fails on the answer `?`. The seed shuffles, as training wants it."""

    name = "doubles"
    settings = {"difficulty": 1}

    def problems(self, split: Split, seed: int) -> Iterator[Problem]:
        for n in range(8 if split == "test" else 10**6):
            yield Problem(self.name, f"{seed}-{n}", f"Double {n}!", str(2 * n), {}, "en")

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        answer = boxed(completion.answer)
        if answer == "?":
            return Verdict("unjudged", {}, "the verifier is at a loss")
        correct = answer == problem.answer and not completion.truncated
        return Verdict("correct" if correct else "wrong", {"accuracy": float(correct)}, "")

    def solve(self, problem: Problem) -> str:
        return problem.answer


def number_in(prompt: str) -> int:
    return int(prompt.split("Double ")[1].split("!")[0])


def good(n: int) -> str:
    return f"{n}+{n}\n</think>\n\n\\boxed{{{2 * n}}}"
