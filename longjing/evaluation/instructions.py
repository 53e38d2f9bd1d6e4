"""What a model that wasn't trained here is told, behind a problem's prompt, of the form that its answer is to have.

Models that were trained here from nothing have learned the form, and their prompts stay as they are. They are known by
their chat template, which is this package's own.
"""

from dataclasses import replace

from longjing.problems import Problem, Task, wants_box
from longjing.text.tokenizer import Tokenizer

_MANY = 0.3  # share of answers without a box, from which on it's worth a word

# By whether the reasoning is to stand between tags, and the result in a box.
_ENGLISH = {
    (False, True): "Put the final answer in \\boxed{}.",
    (True, False): "First think step by step between <think> and </think>, then give the answer.",
    (True, True): "First think step by step between <think> and </think>, then give the answer, with the final result "
    "in \\boxed{}.",
}
_CHINESE = {
    (False, True): "把最后的答案写在 \\boxed{} 里。",
    (True, False): "先在 <think> 和 </think> 之间一步一步地思考，再作答。",
    (True, True): "先在 <think> 和 </think> 之间一步一步地思考，再作答，并把最后的结果写在 \\boxed{} 里。",
}


def knows_thinking(tokenizer: Tokenizer) -> bool:
    """Whether a model with this tokenizer thinks in tags: its template or its vocabulary knows them."""
    return "think>" in tokenizer.template or tokenizer.think_id is not None


def instruction(
    tokenizer: Tokenizer, task: Task, problem: Problem, given: str | None = None, tags: bool = False
) -> str:
    """The instruction for one problem, empty for none: the one that is `given`, or what the prompt doesn't say yet of
    the form that is judged. `tags`: reasoning between tags is wanted, which a model whose template knows them needn't
    be told."""
    if given is not None:
        return given
    if tokenizer.is_own or not tokenizer.template:
        return ""
    return wanted_form(task, problem, tags and "think>" not in tokenizer.template)


def wanted_form(task: Task, problem: Problem, tags: bool) -> str:
    """What the prompt doesn't say yet of the form that is judged, empty if that is all of it. `tags`: reasoning between
    tags is wanted."""
    form = (tags and "think>" not in problem.prompt, wants_box(task, problem) and "\\boxed" not in problem.prompt)
    return (_CHINESE if problem.language == "zh" else _ENGLISH).get(form, "")


def untold(problem: Problem) -> Problem:
    """The problem without the request for a box that a task puts behind its questions."""
    return replace(problem, prompt=problem.prompt.removesuffix(f"\n\n{_ENGLISH[False, True]}"))


def asked(problem: Problem, instruction: str) -> str:
    """The user's message: the problem's prompt with the instruction behind it."""
    return f"{problem.prompt}\n\n{instruction}" if instruction else problem.prompt


def hint(task: Task, problem: Problem, without_answer: float) -> str | None:
    """What to do about answers of which this share has no box, if that is why they are wrong."""
    if without_answer < _MANY or not wants_box(task, problem):
        return None
    return (
        f"{without_answer:.0%} of the answers hold no \\boxed{{}}, where the final answer is looked for: say what form "
        "you want in `instruction`, or in the task's `template`; a model that never saw it may need fine-tuning first"
    )
