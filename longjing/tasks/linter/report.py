"""What the linter of tasks says (`linter.py`)."""

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warning", "failed"]


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

    def add(self, check: str, status: Status, says: str) -> None:
        self.findings.append(Finding(check, status, says))

    def status(self, check: str) -> Status:
        """Of the check of that name. Raises KeyError if it wasn't made."""
        return {finding.check: finding.status for finding in self.findings}[check]


def short(text: str) -> str:
    """A text as a message quotes it: its beginning and its end."""
    return repr(text if len(text) <= 70 else f"{text[:50]} ... {text[-15:]}")
