r"""One interface for exact, empirical and learned denoisers: (x_t, t) -> what is known of x_0.

Of a string that is the posterior of every site, ln p(x_0^i = x | x_t); of an array the mean E[x_0 | x_t], from which
the score follows. Everything downstream (forward-backward, samplers, measures, experiments) takes an `AbstractDenoiser`
and does not ask which kind it is. Denoisers that know the joint posterior are `AbstractJointDenoiser`s: they can undo
all noise in one exact draw.

Networks enter by the doors of `doors.py` and become one of two. The output f(x_t, t) of a `NetworkDenoiser`, logits
(batch, sites, v), is read as the *cavity*: what the other sites say about a site. The site's own evidence is known
exactly and is added, not learned:

    ln p(x_0^i = x | x_t) = f_i(x) + ln q(x_t^i | x_0^i = x) + const.                                              (1)

Under masking this is the usual carry-over of visible tokens; under uniform noise f is the target of the D3PM loss.
Gradients of the cross-entropy of (1) therefore train the cavity, whatever the process. The output of a
`VectorNetworkDenoiser` is read as its `parametrisation` says.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree, Shaped

from ..noise.gaussian import VectorProcess
from ..noise.process import AbstractTokenProcess
from .loss import posterior_loss, site_weights
from .parametrisation import AbstractParametrisation, AbstractWeighting, OutputWeight, Preconditioned

BatchData = Shaped[Array, "batch *datum"]
BatchCorrupted = Shaped[Array, "batch *corrupted"]
Times = Float[Array, " batch"]
LogProbs = Float[Array, "batch sites v"]
Known = Float[Array, "batch *posterior"]


class AbstractDenoiser(eqx.Module):
    """Maps noised data to what is known of the clean. Takes a batch: networks and exact inference need it inside."""

    process: eqx.AbstractVar[Any]
    """The noise that it undoes: an `AbstractProcess`, of strings or of arrays."""

    @abc.abstractmethod
    def __call__(self, x_t: BatchCorrupted, t: Times) -> Known:
        """What is known of x_0.

        For strings ln p(x_0^i = x | x_t), (batch, sites, v), nats, normalised over x; rows that are all `-inf` mean
        that x_t is impossible. For arrays E[x_0 | x_t], in the shape of x_t.
        """


class AbstractJointDenoiser(AbstractDenoiser):
    """A denoiser that can draw whole data from p(x_0 | x_t)."""

    @abc.abstractmethod
    def posterior_sample(self, key: Key[Array, ""], x_t: BatchCorrupted, t: Times) -> BatchData:
        """One exact draw for each row of `x_t`, independent of each other."""


class AbstractNetworkDenoiser(AbstractDenoiser):
    """A denoiser with parameters, and the loss that trains them."""

    apply: eqx.AbstractVar[Callable[[PyTree, Array, Array], Array]]
    """(params, x_t, t) -> output; a module without parameters, or a plain function."""
    params: eqx.AbstractVar[PyTree]

    @abc.abstractmethod
    def loss(self, x0: BatchData, x_t: BatchCorrupted, t: Times) -> Float[Array, " batch"]:
        """What training descends; smallest on average for the exact denoiser."""


class NetworkDenoiser(AbstractNetworkDenoiser):
    """A network of strings behind the interface, equation (1)."""

    process: AbstractTokenProcess
    apply: Callable[[PyTree, Array, Array], Array]
    params: PyTree
    blind: bool = eqx.field(static=True, default=False)
    """Whether the output at a site is independent of that site, as `TreeUNet`'s is. A network that sees the site must
    be trained on the sum (1); a blind one can be trained on its cavity at every site, see `loss.py`."""

    def cavity(self, x_t: BatchCorrupted, t: Times) -> LogProbs:
        """The network's own output, normalised: ln p(x_0^i | x_t at the other sites)."""
        return jax.nn.log_softmax(self.apply(self.params, x_t, t).astype(t.dtype))

    def __call__(self, x_t, t):
        evidence = jax.vmap(self.process.log_likelihood)(x_t, t)
        # one site that no symbol explains makes its string impossible, at every site, as for the exact denoiser
        impossible = jnp.any(jnp.all(evidence == -jnp.inf, -1), -1)[:, None, None]
        logits = self.apply(self.params, x_t, t).astype(t.dtype)
        posterior = jax.nn.log_softmax(logits + jnp.where(impossible, 0.0, evidence))
        return jnp.where(impossible, -jnp.inf, posterior)

    def loss(self, x0, x_t, t):
        """Nats per site: the cavity loss of a blind network, the posterior loss of any other."""
        if self.blind:
            return posterior_loss(self.cavity(x_t, t), x0, jnp.full(x0.shape, 1 / x0.shape[1], jnp.float32))
        return posterior_loss(self(x_t, t), x0, site_weights(self.process, x_t))


class VectorNetworkDenoiser(AbstractNetworkDenoiser):
    """A network of arrays behind the interface: its output is read as `parametrisation` says."""

    process: VectorProcess
    apply: Callable[[PyTree, Array, Array], Array]
    params: PyTree
    parametrisation: AbstractParametrisation = Preconditioned()
    weighting: AbstractWeighting = OutputWeight()

    def __call__(self, x_t, t):
        skip, scale, entry = (per_row(factor, x_t) for factor in self.parametrisation.factors(self.process.path, t))
        return skip * x_t + scale * self.apply(self.params, entry * x_t, t).astype(x_t.dtype)

    def loss(self, x0, x_t, t):
        """Mean squared error of the mean of x_0, per number, times the weight of the time."""
        skip, scale, entry = (per_row(factor, x_t) for factor in self.parametrisation.factors(self.process.path, t))
        output = self.apply(self.params, entry * x_t, t).astype(x_t.dtype)
        squares = jnp.mean(((x0 - skip * x_t) / scale - output) ** 2, tuple(range(1, x_t.ndim)))
        return squares * self.weighting.factor(self.process.path, t, scale.reshape(t.shape))


def score(denoiser: AbstractDenoiser, x_t: Float[Array, "batch *datum"], t: Times) -> Float[Array, "batch *datum"]:
    """grad ln p_t(x_t) of arrays, (alpha E[x_0 | x_t] - x_t) / sigma^2 (Tweedie); t > 0.

    Raises:
      ValueError: if the denoiser is one of strings, where there is nothing to differentiate by.
    """
    process = denoiser.process
    if not isinstance(process, VectorProcess):
        raise ValueError(f"{type(process).__name__} is a process of strings, which have no score")
    return (per_row(process.path.alpha(t), x_t) * denoiser(x_t, t) - x_t) / per_row(process.path.sigma(t) ** 2, x_t)


def per_row(numbers: Times, x_t: BatchCorrupted) -> Float[Array, "batch *ones"]:
    """One number per row, in the dtype of the rows and with as many axes."""
    return numbers.reshape(-1, *[1] * (x_t.ndim - 1)).astype(x_t.dtype)
