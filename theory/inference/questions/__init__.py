"""Questions beyond marginals: the best trees, how leaves vary together, how far grammars differ, broken rules."""
