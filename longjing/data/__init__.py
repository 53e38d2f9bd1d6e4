"""What models learn from: files of conversations and of preferences; public sets of problems, as files that tasks are
made of, without what evaluations ask, and as hard as wanted."""
