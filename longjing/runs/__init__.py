"""The run directory: what is written, and reading it back."""

from longjing.runs.directory import RunDirectory, StageDirectory, Watcher
from longjing.runs.jsonl import JsonLines, read_jsonl

__all__ = ["JsonLines", "RunDirectory", "StageDirectory", "Watcher", "read_jsonl"]
