r"""The denoiser of a finite training set: what a network of unlimited capacity learns from n data. It memorises.

By Bayes' rule over the data x^1 .. x^n, all equally likely,

    p(x_0 = x^k | x_t) = w_k ~ prod_i q(x_t^i | x_0^i = x^k_i)      strings,                                       (1)
    w_k ~ exp( (alpha x_t . x^k - alpha^2 |x^k|^2 / 2) / sigma^2 )   arrays,                                        (2)

|x_t|^2 being common to all k. The mean of arrays, sum_k w_k x^k, is found in one pass over blocks of the set, with the
largest exponent so far and sums relative to it: two matrix products per block, and nothing of size (batch, n, d) is
ever formed. In float32, (2) has an error of about 1e-7 |x_t| |x^k| / sigma^2 nats.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from diffusion import VectorProcess
from diffusion.denoise.denoiser import AbstractJointDenoiser, AbstractTokenDenoiser, AbstractVectorDenoiser
from diffusion.noise.process import AbstractProcess, AbstractTokenProcess, draw_symbols, per_datum
from hierarchical.arguments import NO_SYMBOL, Given, as_symbols

from ..logspace import finite, log_sum, log_where_positive

LogWeights = Float[Array, "batch n"]

BLOCK = 4096  # points of the set that are looked at together


class AbstractEmpiricalDenoiser(AbstractJointDenoiser):
    """The posterior when the data are known to be one of `data`."""

    data: eqx.AbstractVar[Shaped[Array, "n *datum"]]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape[1:]

    @abc.abstractmethod
    def log_weights_batch(self, x_t: Shaped[Array, "batch *datum"], t: Float[Array, " batch"]) -> LogWeights:
        """`log_weights` of checked data with one batch axis."""

    def log_weights(self, x_t: Given, t: Given) -> Float[Array, "*batch n"]:
        """ln w, nats; all `-inf` for a string that no string of the set can have become."""
        rows, times, batch = self.rows(x_t, t)
        return self.log_weights_batch(rows, times).reshape(*batch, -1)


class EmpiricalTokenDenoiser(AbstractEmpiricalDenoiser, AbstractTokenDenoiser):
    """`EmpiricalDenoiser` of strings, equation (1)."""

    data: Int[Array, "n sites"]
    process: AbstractTokenProcess

    @eqx.filter_jit
    def denoise_batch(self, x_t, t):
        weights = self.log_weights_batch(x_t, t)
        symbols = jax.nn.one_hot(self.data, self.process.num_symbols, dtype=weights.dtype)  # (n, sites, v)
        # TF32 would cost digits
        return log_where_positive(jnp.einsum("bn,nsv->bsv", jnp.exp(weights), symbols, precision="highest"))

    @eqx.filter_jit
    def cavity_batch(self, x_t, t):
        """From weights without the site's own factor, so that it is known of visible sites too; all `-inf`: impossible.

        Factors of 0 are counted apart, for a product cannot be divided by them.
        """
        sites = self._evidence_of_sites(x_t, t)

        def factor_of(site):
            factor = _of_data(*site)
            return finite(factor), (factor == -jnp.inf).astype(jnp.int32)

        def multiply(product, site):
            return jax.tree.map(jnp.add, product, factor_of(site)), None

        pairs = len(x_t), len(self.data)
        (total, zeros), _ = jax.lax.scan(multiply, (jnp.zeros(pairs, t.dtype), jnp.zeros(pairs, jnp.int32)), sites)

        def of_site(_, site):
            factor, is_zero = factor_of(site)
            rest = jnp.where(zeros > is_zero, -jnp.inf, total - factor)
            weights = jnp.exp(rest - finite(jnp.max(rest, 1))[:, None])
            symbols = jax.nn.one_hot(site[1], self.process.num_symbols, dtype=weights.dtype)
            found = jnp.matmul(weights, symbols, precision="highest")  # TF32 would cost digits
            return None, log_where_positive(found) - finite(log_where_positive(jnp.sum(found, 1)))[:, None]

        return jax.lax.scan(of_site, None, sites)[1].transpose(1, 0, 2)

    @eqx.filter_jit
    def draw_batch(self, key, x_t, t):
        number = draw_symbols(key, self.log_weights_batch(x_t, t))
        return jnp.where(number[:, None] >= 0, self.data[number], NO_SYMBOL)

    @eqx.filter_jit
    def log_weights_batch(self, x_t, t):
        """A site at a time, so that no (batch, n, sites) array is formed."""
        total, _ = jax.lax.scan(
            lambda total, site: (total + _of_data(*site), None),
            jnp.zeros((len(x_t), len(self.data)), t.dtype),
            self._evidence_of_sites(x_t, t),
        )
        return total - finite(log_sum(total, axis=1))[:, None]

    def _evidence_of_sites(
        self, x_t: Shaped[Array, "batch sites *width"], t: Float[Array, " batch"]
    ) -> tuple[Float[Array, "sites batch v"], Int[Array, "sites n"]]:
        """Evidence and the symbols of all data, site by site."""
        evidence = self.process.site_evidence(x_t, per_datum(t, x_t))
        return evidence.transpose(1, 0, 2), self.data.T


def _of_data(evidence: Float[Array, "batch v"], symbols: Int[Array, " n"]) -> LogWeights:
    """A site's factor of each datum's weight, `-inf` for what is no symbol."""
    return jnp.where(symbols >= 0, evidence[:, symbols], -jnp.inf)


class EmpiricalVectorDenoiser(AbstractEmpiricalDenoiser, AbstractVectorDenoiser):
    """`EmpiricalDenoiser` of arrays, equation (2)."""

    data: Float[Array, "n *datum"]
    process: VectorProcess

    @eqx.filter_jit
    def denoise_batch(self, x_t, t):
        return self._mean(*self._wide(x_t), t).reshape(x_t.shape)

    @eqx.filter_jit
    def draw_batch(self, key, x_t, t):
        number = draw_symbols(key, self.log_weights_batch(x_t, t))
        return jnp.where(per_datum(number, x_t) >= 0, self.data[number], jnp.nan)

    @eqx.filter_jit
    def log_weights_batch(self, x_t, t):
        x_t, points = self._wide(x_t)
        return jax.nn.log_softmax(self._exponents(x_t, t, points))

    def _wide(self, x_t: Float[Array, "batch *datum"]) -> tuple[Float[Array, "batch d"], Float[Array, "n d"]]:
        """Rows and points as vectors, in the wider of their dtypes."""
        dtype = max(x_t.dtype, self.data.dtype, key=lambda dtype: jnp.finfo(dtype).bits)
        return x_t.reshape(len(x_t), -1).astype(dtype), self.data.reshape(len(self.data), -1).astype(dtype)

    def _exponents(
        self, x_t: Float[Array, "batch d"], t: Float[Array, " batch"], points: Float[Array, "points d"]
    ) -> Float[Array, "batch points"]:
        """The exponents of equation (2)."""
        alpha, sigma = (number.astype(x_t.dtype) for number in (self.process.path.alpha(t), self.process.path.sigma(t)))
        near = jnp.matmul((alpha / sigma**2)[:, None] * x_t, points.T, precision="highest")
        return near - (alpha / sigma)[:, None] ** 2 * (jnp.sum(points**2, 1) / 2)[None]

    def _mean(
        self, x_t: Float[Array, "batch d"], points: Float[Array, "n d"], t: Float[Array, " batch"]
    ) -> Float[Array, "batch d"]:
        """sum_k w_k x^k."""
        size = min(BLOCK, len(points))

        def take(number: Int[Array, ""], sums):
            largest, total, mean = sums
            start = jnp.minimum(number * size, len(points) - size)  # the last block overlaps the one before
            block = jax.lax.dynamic_slice_in_dim(points, start, size)
            is_new = start + jnp.arange(size) >= number * size
            exponents = jnp.where(is_new[None], self._exponents(x_t, t, block), -jnp.inf)
            # the shift cancels in the mean; the derivative of a maximum is 0 / 0 where XLA computes exponents twice
            now = jnp.maximum(largest, jax.lax.stop_gradient(jnp.max(exponents, 1)))
            weights, shrink = jnp.exp(exponents - now[:, None]), jnp.exp(largest - now)
            added = jnp.matmul(weights, block, precision="highest")
            return now, total * shrink + jnp.sum(weights, 1), mean * shrink[:, None] + added

        nothing = (jnp.full(len(x_t), -jnp.inf, x_t.dtype), jnp.zeros(len(x_t), x_t.dtype), jnp.zeros_like(x_t))
        _, total, mean = jax.lax.fori_loop(0, -(-len(points) // size), take, nothing)
        return mean / total[:, None]


def EmpiricalDenoiser(data: Given, process: AbstractProcess) -> AbstractEmpiricalDenoiser:
    """The exact denoiser of a finite training set, (n, *datum), of strings or of arrays. Costs O(n d) per datum.

    Raises:
      ValueError: if there are no data, or a symbol is outside the alphabet of the process.
    """
    data = process.clean(data)
    if data.ndim < 2 or data.size == 0:
        raise ValueError(f"the training set has shape {data.shape}: give (n, ...) data, at least one")
    if isinstance(process, AbstractTokenProcess):
        return EmpiricalTokenDenoiser(data=data, process=process)
    if isinstance(process, VectorProcess):
        return EmpiricalVectorDenoiser(data=data, process=process)
    raise ValueError(f"{type(process).__name__} is a process neither of strings nor of arrays")


def seed_log_weights(denoiser: AbstractEmpiricalDenoiser, x_t: Given, t: Given, seeds: Given) -> Float[Array, "*batch"]:
    """ln w of the point that each datum was noised from, nats; its -mean / d is the excess entropy f(t) of `collapse`.

    Args:
      seeds: the number of that point in the set, one for each datum.

    Raises:
      ValueError: as calling the denoiser, or if there are other numbers of seeds than data, or a known seed is no point
        of the set (inside jit its weight is NaN).
    """
    weights = denoiser.log_weights(x_t, t)
    numbers = as_symbols(seeds, len(denoiser.data), "seeds")
    if numbers.shape != weights.shape[:-1]:
        raise ValueError(f"seeds have shape {numbers.shape}, the batch {weights.shape[:-1]}: give one for each datum")
    of_seeds = jnp.take_along_axis(weights, jnp.maximum(numbers, 0)[..., None], -1)[..., 0]
    return jnp.where(numbers >= 0, of_seeds, jnp.nan)
