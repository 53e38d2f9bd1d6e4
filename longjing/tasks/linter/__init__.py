"""Is a task fit to learn from? The linter behind `longjing tasks check`, to be run before money is spent."""

from longjing.tasks.linter.linter import check
from longjing.tasks.linter.report import Finding, Report, Status

__all__ = ["Finding", "Report", "Status", "check"]
