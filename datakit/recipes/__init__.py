"""Recipes: the files under prompts/, and those of users, found, checked and rendered."""
