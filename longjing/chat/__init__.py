"""Talking to a model in the terminal: the reasoning dimmed, the answer not, and every turn remembered."""

from longjing.chat.conversation import ChatModel, Conversation
from longjing.chat.terminal import converse

__all__ = ["ChatModel", "Conversation", "converse"]
