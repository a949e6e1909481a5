"""What several experiments do alike: networks trained on grammars, mixtures, texts and images."""
