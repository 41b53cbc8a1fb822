"""Plan which examples make which sequence, choose splits, plan mixes, and write output files by these plans."""
