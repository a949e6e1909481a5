"""Networks of our own: a U-Net in the shape of the tree, a transformer, a convolutional U-Net, dense networks, VAEs.

They map (x_t, t) to an output and know nothing of denoisers; those of `vae` encode vectors and decode latents. The
arguments of a constructor are attributes of the same name, from which `diffusion.save` describes a network.
"""
