from longjing.toys.conversation.task import ConversationTask, write_conversation
from longjing.toys.toy import Toy, register_documents, register_toy

register_toy(Toy(ConversationTask, informal=True))
register_documents(ConversationTask.name, write_conversation)
