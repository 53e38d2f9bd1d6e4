"""What several tests do with files of conversations."""

from collections.abc import Collection
from pathlib import Path

from longjing.data.conversations import Conversation, placed_conversations


def read_conversations(path: str | Path, control: Collection[str] = ()) -> list[Conversation]:
    return [conversation for _, conversation in placed_conversations(path, control)]
