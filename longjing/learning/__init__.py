"""Objectives, the loops that use them, and their exact state."""
