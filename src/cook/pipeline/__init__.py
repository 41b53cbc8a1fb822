"""One data set through the stages; a run over the data sets of a recipe; a mix of what is cooked."""
