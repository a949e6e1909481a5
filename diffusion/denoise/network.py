r"""Denoisers with parameters: how the output of a network is read, and the loss that trains it.

Networks enter by the doors of `from_network.py`. The output f(x_t, t) of a `NetworkDenoiser`, logits (batch, sites, v),
is read as the *cavity*: what the other sites say about a site. The site's own evidence is known exactly and is added,
not learned:

    ln p(x_0^i = x | x_t) = f_i(x) + ln q(x_t^i | x_0^i = x) + const.                                              (1)

Under masking this is the usual carry-over of visible tokens; under uniform noise f is the target of the D3PM loss.
Gradients of the cross-entropy of (1) therefore train the cavity, whatever the process. The output of a
`VectorNetworkDenoiser` is read as its `parametrisation` says.
"""

import abc
import dataclasses
from collections import OrderedDict
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hierarchical.arguments import Given

from ..noise.gaussian import VectorProcess
from ..noise.process import AbstractTokenProcess, Shape, beside, per_datum
from .apply import Change, LayeredApply, example
from .denoiser import AbstractDenoiser, AbstractTokenDenoiser, AbstractVectorDenoiser, BatchCorrupted, BatchData, Times
from .loss import expected_loss, noised_sites, posterior_loss, site_weights
from .parametrisation import AbstractParametrisation, AbstractWeighting, OutputWeight, Preconditioned
from .steer import NO_STATES, SteeredApply, refuse_unsteerable

LogProbs = Float[Array, "batch sites v"]


class AbstractNetworkDenoiser(AbstractDenoiser):
    """A denoiser with parameters, and the loss that trains them."""

    apply: eqx.AbstractVar[Callable[[PyTree, Array, Array], Array]]
    """(params, x_t, t) -> output; a module without parameters, or a plain function."""
    params: eqx.AbstractVar[PyTree]
    datum_shape: eqx.AbstractVar[Shape]
    """What `shape` gives."""
    trained_up_to: eqx.AbstractVar[float | None]
    """The largest noise time that it was trained at; None: that of the process."""
    trained_from: eqx.AbstractVar[float]
    """The smallest; 0 before training."""

    @property
    def shape(self) -> Shape:
        return self.datum_shape

    @property
    def max_time(self) -> float:
        return self.process.max_time if self.trained_up_to is None else self.trained_up_to

    @property
    def min_time(self) -> float:
        return self.trained_from

    @abc.abstractmethod
    def loss(self, x0: BatchData, x_t: BatchCorrupted, t: Times) -> Float[Array, " batch"]:
        """What training descends; smallest on average for the exact denoiser."""

    @abc.abstractmethod
    def distillation_loss(self, teacher: AbstractDenoiser, x_t: BatchCorrupted, t: Times) -> Float[Array, " batch"]:
        """`loss` with what a teacher knows of x_0 in the place of x_0; smallest for the teacher itself."""


class NetworkDenoiser(AbstractNetworkDenoiser, AbstractTokenDenoiser):
    """A network of strings behind the interface, equation (1)."""

    process: AbstractTokenProcess
    apply: Callable[[PyTree, Array, Array], Array]
    params: PyTree
    datum_shape: Shape = eqx.field(static=True)
    blind: bool = eqx.field(static=True, default=False)
    """Whether the output at a site is independent of that site, as `TreeUNet`'s is. A network that sees the site must
    be trained on the sum (1); a blind one can be trained on its cavity at every site, see `loss.py`."""
    trained_up_to: float | None = eqx.field(static=True, default=None)
    trained_from: float = eqx.field(static=True, default=0.0)

    def cavity_batch(self, x_t, t):
        """The network's own output, normalised; NaN at visible sites under masking, unless the network is blind.

        What a network that sees the site says there never enters its loss.
        """
        output = jax.nn.log_softmax(self.apply(self.params, x_t, t).astype(t.dtype))
        return output if self.blind else jnp.where(noised_sites(self.process, x_t)[..., None], output, jnp.nan)

    def denoise_batch(self, x_t, t):
        evidence = self.process.site_evidence(x_t, per_datum(t, x_t))
        # one site that no symbol explains makes its string impossible, at every site, as for the exact denoiser
        impossible = jnp.any(jnp.all(evidence == -jnp.inf, -1), -1)[:, None, None]
        logits = self.apply(self.params, x_t, t).astype(t.dtype)
        posterior = jax.nn.log_softmax(logits + jnp.where(impossible, 0.0, evidence))
        return jnp.where(impossible, -jnp.inf, posterior)

    def states(self, x_t: Given, t: Given) -> dict[str, Float[Array, "*batch nodes width"]]:
        """What the network computes on the way, by name, first layer first: a vector for each site or node.

        Which states there are, and of what, the network's method `states` says, or the function given to its door.

        Args:
          x_t, t: as of calling the denoiser; batch axes of x_t are those of every state.

        Raises:
          ValueError: if the network gives no states, or one that is not of shape (batch, nodes, width).
        """
        if not isinstance(self.apply, LayeredApply):
            raise ValueError(NO_STATES)
        rows, times, batch = self.rows(x_t, t)
        found = self.apply.states(self.params, rows, times)
        for name, state in found.items():
            if state.ndim != 3 or len(state) != len(rows):
                raise ValueError(
                    f"state {name!r} of {len(rows)} strings has shape {state.shape}: give (batch, nodes, width)"
                )
        return OrderedDict((name, state.reshape(*batch, *state.shape[1:])) for name, state in found.items())

    def steered(self, change: Change) -> "NetworkDenoiser":
        """This denoiser with its states changed on the way, for all that is asked of it: posteriors, cavities, states.

        Args:
          change: `change(name, state)` is given each state of `states` by name, when it is made, (strings, nodes,
            width), and returns what the network computes on with, of the same shape and dtype. Batch axes of x_t are
            one axis, strings. A `change` with arrays of its own is an `eqx.Module`, so that others of its shape compile
            nothing.

        Raises:
          ValueError: if the network, or a function that gives its states, does not take `change`; when called, if the
            change returns another shape or dtype, or every state as it was, as for a name that is none of theirs.
        """
        if not isinstance(self.apply, SteeredApply):  # which was tried, and may be for so many strings alone
            refuse_unsteerable(self.apply, self.params, example(self.process, self.datum_shape))
        return dataclasses.replace(self, apply=SteeredApply(self.apply, change))

    def loss(self, x0, x_t, t):
        """Nats per site: the cavity loss of a blind network, the posterior loss of any other."""
        if self.blind:
            return posterior_loss(self.cavity_batch(x_t, t), x0, jnp.full(x0.shape, 1 / x0.shape[1], jnp.float32))
        return posterior_loss(self.denoise_batch(x_t, t), x0, site_weights(self.process, x_t))

    def distillation_loss(self, teacher, x_t, t):
        """Nats per site, equation (3) of `loss.py`: on average as large as `loss` if the teacher is exact.

        A teacher that does not know its cavity of visible sites, as a network that sees them, gives NaN there. These
        sites are left out then, so that the loss of a blind network is smaller.
        """
        if not isinstance(teacher, AbstractTokenDenoiser):
            raise ValueError(f"{type(teacher).__name__} does not denoise strings: give an AbstractTokenDenoiser")
        if self.blind:
            known = teacher.cavity_batch(x_t, t)
            counted = noised_sites(self.process, x_t) | ~jnp.any(jnp.isnan(known), -1)
            return expected_loss(self.cavity_batch(x_t, t), known, counted.astype(jnp.float32) / x_t.shape[1])
        return expected_loss(self.denoise_batch(x_t, t), teacher.denoise_batch(x_t, t), site_weights(self.process, x_t))


class VectorNetworkDenoiser(AbstractNetworkDenoiser, AbstractVectorDenoiser):
    """A network of arrays behind the interface: its output is read as `parametrisation` says."""

    process: VectorProcess
    apply: Callable[[PyTree, Array, Array], Array]
    params: PyTree
    datum_shape: Shape = eqx.field(static=True)
    parametrisation: AbstractParametrisation = Preconditioned()
    weighting: AbstractWeighting = OutputWeight()
    trained_up_to: float | None = eqx.field(static=True, default=None)
    trained_from: float = eqx.field(static=True, default=0.0)
    taught_ends: bool = eqx.field(static=True, default=False)
    """Whether its teacher was a `FlowEnd`."""

    @property
    def gives_ends(self) -> bool:
        return self.taught_ends

    def denoise_batch(self, x_t, t):
        skip, scale, entry = (beside(f, x_t) for f in self.parametrisation.factors(self.process.path, t))
        return skip * x_t + scale * self.apply(self.params, entry * x_t, t).astype(x_t.dtype)

    def score_batch(self, x_t, t):
        """From the output itself, where the parametrisation knows how: nothing cancels at small t."""
        *_, entry = (beside(f, x_t) for f in self.parametrisation.factors(self.process.path, t))
        skip, scale = (beside(f, x_t) for f in self.parametrisation.score_factors(self.process.path, t))
        return skip * x_t + scale * self.apply(self.params, entry * x_t, t).astype(x_t.dtype)

    def loss(self, x0, x_t, t):
        """Mean squared error of the mean of x_0, per number, times the weight of the time."""
        skip, scale, entry = (beside(f, x_t) for f in self.parametrisation.factors(self.process.path, t))
        output = self.apply(self.params, entry * x_t, t).astype(x_t.dtype)
        squares = jnp.mean(((x0 - skip * x_t) / scale - output) ** 2, tuple(range(1, x_t.ndim)))
        return squares * self.weighting.factor(self.process.path, t, scale.reshape(t.shape))

    def distillation_loss(self, teacher, x_t, t):
        """As `loss`, beside the teacher's mean: smaller by the posterior variance of x_0 if the teacher is exact."""
        return self.loss(teacher.denoise_batch(x_t, t).astype(x_t.dtype), x_t, t)
