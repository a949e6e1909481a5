"""Laws with a symmetry: rings, mechanics, collisions of particles; each a differentiable map with its counts."""
