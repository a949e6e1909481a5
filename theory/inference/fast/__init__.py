"""The fast formulation of inference: linear in the messages, guarded, and cut into segments that stay in the cache."""
