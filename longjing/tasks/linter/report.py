"""What the linter of tasks says (`linter.py`)."""

from dataclasses import dataclass, field
from typing import Any, Literal

from longjing.problems import Problem
from longjing.validation import read_yaml

Status = Literal["ok", "warning", "failed"]
_TEXTS = read_yaml(__file__, "findings.yaml", dict[str, dict[Status, str]])


@dataclass(frozen=True)
class Finding:
    """What one check found; where it isn't ok, what is wrong and what to do."""

    check: str
    status: Status
    says: str


@dataclass
class Report:
    """All findings on a task. `problems` by split."""

    task: str
    settings: dict[str, Any]
    problems: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(finding.status != "failed" for finding in self.findings)

    def add(
        self, check: str, status: Status, says: str = "", problem: Problem | None = None, text: str = "", **gaps: Any
    ) -> None:
        """Add what `findings.yaml` says under `says`, the check's own name unless given; a `problem` fills the gaps
        {prompt} and {answer}, and all three texts are quoted short."""
        if problem is not None:
            gaps |= {"prompt": short(problem.prompt), "answer": short(problem.answer)}
        finding = _TEXTS[says or check][status].format_map({"text": short(text), **gaps})
        self.findings.append(Finding(check, status, finding))

    def status(self, check: str) -> Status:
        """The status of the check of that name. Raises KeyError if it wasn't made."""
        return {finding.check: finding.status for finding in self.findings}[check]


def short(text: str) -> str:
    """A text as a message quotes it: its beginning and its end."""
    return repr(text if len(text) <= 70 else f"{text[:50]} ... {text[-15:]}")
