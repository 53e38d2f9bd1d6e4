"""Recipes: YAML files of stages, run in order, with advice on the way and a report at the end."""
