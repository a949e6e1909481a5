"""The convolutional U-Net: its convolution is XLA's, it reads the time, and it starts at 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusion import ConvUNet, VectorProcess, from_flax
from diffusion.networks.conv_unet import Convolution, gathered, spread


def test_shifted_copies_are_the_convolution_of_xla():
    layer = Convolution(3, 5, rngs=nnx.Rngs(0))
    h = jax.random.normal(jax.random.key(0), (2, 6, 7, 3), jnp.float32)
    kernel = layer.product.kernel[...].reshape(3, 3, 3, 5)
    want = jax.lax.conv_general_dilated(h, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(layer(h), want, atol=1e-5)


def test_gathering_squares_is_undone_by_spreading_them():
    h = jax.random.normal(jax.random.key(1), (2, 6, 8, 3))
    squares = gathered(h, 2)
    np.testing.assert_array_equal(squares[1, 2, 3].reshape(2, 2, 3), h[1, 4:6, 6:8])
    np.testing.assert_array_equal(spread(squares, 2), h)


def network(**options):
    return ConvUNet(2, 8, **options, rngs=nnx.Rngs(1))


@pytest.mark.parametrize("options", [dict(levels=1, patch=2), pytest.param(dict(levels=2), marks=pytest.mark.slow)])
def test_an_untrained_network_gives_nothing_and_a_changed_network_sees_the_time(options):
    unet, side = network(**options), 4 * options["levels"]
    x_t, t = (
        jax.random.normal(jax.random.key(2), (3, side, side, 2), jnp.float32),
        jnp.array([0.1, 1.0, 3.0], jnp.float32),
    )
    definition, params = nnx.split(unet)
    call = jax.jit(lambda params, x_t, t: nnx.merge(definition, params)(x_t, t))
    np.testing.assert_array_equal(call(params, x_t, t), np.zeros((3, side, side, 2)))
    params = _perturbed(params)
    moved = jnp.abs(call(params, x_t, t) - call(params, x_t, t[::-1]))
    assert moved[0].max() > 1e-3 and moved[2].max() > 1e-3
    np.testing.assert_allclose(moved[1], 0, atol=1e-5)


def test_every_parameter_can_change_the_output():
    definition, params = nnx.split(network(levels=1, patch=2))
    x_t, t = jax.random.normal(jax.random.key(4), (3, 4, 4, 2), jnp.float32), jnp.array([0.1, 1.0, 3.0], jnp.float32)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(nnx.merge(definition, p)(x_t, t) ** 2)))(_perturbed(params))
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(gradient))


@jax.jit
def _perturbed(params):
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    return structure.unflatten(
        leaf + 0.1 * jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)
    )


def test_images_that_cannot_be_halved_are_refused_when_the_denoiser_is_made():
    with pytest.raises(ValueError, match="images of 5 x 5 pixels: give multiples of 2, or fewer levels"):
        from_flax(network(levels=2), VectorProcess(), (5, 5, 2))


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="patch = 0: at least 1 needed"):
        network(patch=0)


def test_a_network_of_arrays_is_not_blind():
    with pytest.raises(ValueError, match="blind = True is for strings"):
        from_flax(network(), VectorProcess(), (8, 8, 2), blind=True)
