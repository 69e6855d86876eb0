"""Two ways to make a film smaller, with the same verbs: `probe` and `shrink`."""
