r"""One interface for exact, empirical and learned denoisers: (x_t, t) -> what is known of x_0.

Of a string that is the posterior of every site, ln p(x_0^i = x | x_t); of an array the mean E[x_0 | x_t], from which
the score follows. Everything downstream (forward-backward, samplers, measures, experiments) takes an `AbstractDenoiser`
and does not ask which kind it is.

    AbstractTokenDenoiser    strings: log posterior, and the *cavity*, what the other sites say of a site
    AbstractVectorDenoiser   arrays: mean, and the score grad ln p_t(x_t)
    AbstractJointDenoiser    of either, if p(x_0 | x_t) of whole data can be drawn from: all noise undone in one draw

To make one, subclass the first or second and write `shape` and `denoise_batch`, for the third also `draw_batch`; they
are given checked data with one batch axis, and times of that length. Callers may give any number of batch axes, or
none, and times that are one number or an array whose axes are the first of the data's.
"""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Key, Shaped

from hierarchical.arguments import AnyKey, Given, as_key

from ..noise.process import Shape, batch_axes, over_batch, per_datum
from ..noise.strings import cavity

BatchData = Shaped[Array, "batch *datum"]
BatchCorrupted = Shaped[Array, "batch *corrupted"]
Times = Float[Array, " batch"]
Known = Float[Array, "batch *posterior"]


class AbstractDenoiser(eqx.Module):
    """Maps noised data to what is known of the clean."""

    process: eqx.AbstractVar[Any]
    """The noise that it undoes: an `AbstractProcess`, of strings or of arrays."""

    @property
    @abc.abstractmethod
    def shape(self) -> Shape:
        """Of one clean datum; of a string, (sites,)."""

    @abc.abstractmethod
    def denoise_batch(self, x_t: BatchCorrupted, t: Times) -> Known:
        """What is known of x_0, see `__call__`; of checked data with one batch axis."""

    @property
    def max_time(self) -> float:
        """The largest noise time that it knows, where generation begins."""
        return self.process.max_time

    @property
    def min_time(self) -> float:
        """The smallest noise time that it knows: 0, but of a network where its training begins, of a curve its grid."""
        return 0.0

    @property
    def gives_ends(self) -> bool:
        """Whether it gives the end of the probability flow in the place of the mean, as `sampling.FlowEnd` does."""
        return False

    def __call__(self, x_t: Given, t: Given) -> Float[Array, "..."]:
        """What is known of x_0.

        For strings ln p(x_0^i = x | x_t), (..., sites, v), nats, normalised over x; rows that are all `-inf` mean that
        x_t is impossible. For arrays E[x_0 | x_t], in the shape of x_t.

        Args:
          x_t: noised data, (..., *shape), with one axis more for Gaussian noise on strings.
          t: noise times, one for all or an array whose axes are the first of those of x_t.

        Raises:
          ValueError: if a shape does not fit, or a known symbol or time is out of range.
        """
        rows, times, batch = self.rows(x_t, t)
        known = self.denoise_batch(rows, times)
        return known.reshape(*batch, *known.shape[1:])

    def rows(self, x_t: Given, t: Given) -> tuple[BatchCorrupted, Times, Shape]:
        """Checked noised data with one batch axis, a time of each, and the batch axes that were given."""
        noised = self.process.noised(x_t)
        core = self.process.noised_shape(self.shape)
        batch = batch_axes(noised, core, "x_t")
        return noised.reshape(-1, *core), over_batch(self.process.time(t, noised), batch).reshape(-1), batch


class AbstractTokenDenoiser(AbstractDenoiser):
    """A denoiser of strings."""

    process: eqx.AbstractVar[Any]

    def log_posterior(self, x_t: Given, t: Given) -> Float[Array, "*batch sites v"]:
        """ln p(x_0^i = x | x_t), nats: what calling the denoiser gives."""
        return self(x_t, t)

    def cavity(self, x_t: Given, t: Given) -> Float[Array, "*batch sites v"]:
        """ln p(x_0^i = x | x_t at the other sites), nats; NaN where it is not known, see `cavity_batch`."""
        rows, times, batch = self.rows(x_t, t)
        rest = self.cavity_batch(rows, times)
        return rest.reshape(*batch, *rest.shape[1:])

    def cavity_batch(self, x_t: BatchCorrupted, t: Times) -> Known:
        """`cavity` of checked data with one batch axis, from the posterior: NaN where evidence is `-inf`, of masks.

        A denoiser that knows its cavity without dividing by the evidence writes its own.
        """
        return cavity(self.denoise_batch(x_t, t), self.process.site_evidence(x_t, per_datum(t, x_t)))


class AbstractVectorDenoiser(AbstractDenoiser):
    """A denoiser of arrays."""

    process: eqx.AbstractVar[Any]

    def mean(self, x_t: Given, t: Given) -> Float[Array, "..."]:
        """E[x_0 | x_t]: what calling the denoiser gives."""
        return self(x_t, t)

    def score(self, x_t: Given, t: Given) -> Float[Array, "..."]:
        """grad ln p_t(x_t), in the shape of x_t; t > 0.

        Raises:
          ValueError: if the denoiser gives ends of the flow, from which no score follows; and as calling it.
        """
        if self.gives_ends:
            raise ValueError("this network was taught the ends of the flow, no means: it has no score, ask its teacher")
        rows, times, batch = self.rows(x_t, t)
        return self.score_batch(rows, times).reshape(*batch, *rows.shape[1:])

    def score_batch(self, x_t: BatchCorrupted, t: Times) -> BatchCorrupted:
        """`score` of checked data, by Tweedie's formula: (alpha E[x_0 | x_t] - x_t) / sigma^2.

        alpha - 1 is taken by itself, so that only the rounding of the mean is divided by sigma^2. A denoiser whose
        score is known better than its mean writes its own.
        """
        path, t = self.process.path, per_datum(t, x_t)
        mean = self.denoise_batch(x_t, t.reshape(-1))
        return (path.alpha(t) * (mean - x_t) + path.alpha_minus_one(t) * x_t) / path.sigma(t) ** 2


class AbstractJointDenoiser(AbstractDenoiser):
    """A denoiser that can draw whole data from p(x_0 | x_t)."""

    @abc.abstractmethod
    def draw_batch(self, key: Key[Array, ""], x_t: BatchCorrupted, t: Times) -> BatchData:
        """`posterior_sample` of checked data with one batch axis."""

    def posterior_sample(self, key: AnyKey, x_t: Given, t: Given) -> Shaped[Array, "..."]:
        """One exact draw of x_0 for each x_t, independent of each other; -1 or NaN where x_t is impossible.

        Arguments and errors as of calling the denoiser.
        """
        rows, times, batch = self.rows(x_t, t)
        return self.draw_batch(as_key(key), rows, times).reshape(*batch, *self.shape)
