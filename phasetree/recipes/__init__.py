"""What several experiments share: networks trained on grammars, mixtures, texts and images."""
