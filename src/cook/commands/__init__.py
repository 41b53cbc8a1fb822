"""Commands that have a module of their own. Only click is imported at the top of each; see `cook.cli`."""
