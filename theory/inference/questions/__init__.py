"""Questions beyond marginals: the best trees of a string, how far two grammars differ, whether a rule is broken."""
