"""One turn and one conversation: what keeps the reasoning in bounds, and what is remembered."""
