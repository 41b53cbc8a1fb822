"""One dataset through the stages; a run over the datasets of a recipe; a mix of what is cooked."""
