"""What is kept in folders: checkpoints and denoisers, with checksums, and whose folder it is."""
