"""A transformer for strings whose layers also mix each site with its neighbours."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Shaped

from .embeddings import BeliefEmbedding, Change, Hidden, TokenEmbedding, unchanged

Logits = Float[Array, "batch sites v"]
Rows = Float[Array, "rows _width"]


class Block(nnx.Module):
    """The feed-forward map of a layer: normalise, widen, apply a nonlinearity, narrow."""

    def __init__(self, width_in: int, hidden: int, width_out: int, *, rngs: nnx.Rngs):
        self.norm = nnx.RMSNorm(width_in, rngs=rngs)
        self.rise = nnx.Linear(width_in, hidden, rngs=rngs)
        self.fall = nnx.Linear(hidden, width_out, rngs=rngs)

    def __call__(self, x: Float[Array, "*nodes _width"]) -> Float[Array, "*nodes _out"]:
        return self.fall(jax.nn.gelu(self.rise(self.norm(x))))


class Transformer(nnx.Module):
    """Pre-norm transformer; every layer also mixes each site with those up to `reach` away, a seven-wide convolution.

    Local mixing is what lets a small model leave the unigram plateau on text; `reach` 0 leaves it out. It is written as
    shifted copies and one matrix product, and activations are kept as one row per site, (batch sites, width): the fast
    forms on a CPU.

    A `causal` one attends to, and mixes, the sites up to each alone: its output at site i is a function of the noised
    sites 0 .. i, and its exact counterpart is the posterior given these, all evidence to the right put to 0.
    """

    def __init__(
        self,
        embedding: BeliefEmbedding | TokenEmbedding,
        num_sites: int,
        num_symbols: int,
        width: int = 128,
        num_layers: int = 4,
        num_heads: int = 4,
        reach: int = 3,
        causal: bool = False,
        *,
        rngs: nnx.Rngs,
    ):
        """`embedding` must give vectors of size `width`."""
        if reach < 0:
            raise ValueError(f"reach = {reach} is negative: give 0 for no local mixing")
        if width % num_heads:
            raise ValueError(f"width = {width} is not a multiple of num_heads = {num_heads}: change one of them")
        self.embedding = embedding
        self.num_sites, self.num_symbols, self.width = num_sites, num_symbols, width
        self.num_layers, self.num_heads, self.reach, self.causal = num_layers, num_heads, reach, causal
        self.position = nnx.Param(0.02 * jax.random.normal(rngs.params(), (num_sites, width), jnp.float32))
        self.layers = nnx.List(
            [TransformerLayer(width, num_heads, reach, causal, rngs=rngs) for _ in range(num_layers)]
        )
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.readout = nnx.Linear(width, num_symbols, rngs=rngs)

    def __call__(
        self, x_t: Shaped[Array, "batch sites *vector"], t: Float[Array, " batch"], change: Change = unchanged
    ) -> Logits:
        *_, last = self.states(x_t, t, change).values()
        batch, sites, width = last.shape
        return self.readout(self.norm(last.reshape(batch * sites, width))).reshape(batch, sites, -1)

    def states(
        self, x_t: Shaped[Array, "batch sites *vector"], t: Float[Array, " batch"], change: Change = unchanged
    ) -> dict[str, Hidden]:
        """Of all sites, each (batch, sites, width): `embedding`, then what leaves `layer_1` .. `layer_n`.

        `change` is given each state when it is made; what it returns stands in its place and enters the next layer.
        """
        state = change("embedding", self.embedding(x_t, t) + self.position[...][None])
        (batch, sites, width), states = state.shape, {"embedding": state}
        for number, layer in enumerate(self.layers, 1):
            h = layer(state.reshape(batch * sites, width), sites)
            state = states[f"layer_{number}"] = change(f"layer_{number}", h.reshape(batch, sites, width))
        return states


class TransformerLayer(nnx.Module):
    """Local mixing, attention, feed-forward, each added to its input."""

    def __init__(self, width: int, num_heads: int, reach: int, causal: bool = False, *, rngs: nnx.Rngs):
        self.num_heads, self.reach, self.ahead = num_heads, reach, 0 if causal else reach
        self.causal = causal
        if reach:
            self.mix = nnx.Linear((reach + 1 + self.ahead) * width, width, rngs=rngs)
            self.mix_norm = nnx.RMSNorm(width, rngs=rngs)
        self.attention_norm = nnx.RMSNorm(width, rngs=rngs)
        self.qkv = nnx.Linear(width, 3 * width, use_bias=False, rngs=rngs)
        self.out = nnx.Linear(width, width, use_bias=False, rngs=rngs)
        self.feed_forward = Block(width, 4 * width, width, rngs=rngs)

    def __call__(self, h: Rows, sites: int) -> Rows:
        if self.reach:
            h = h + self.mix(self._neighbours(self.mix_norm(h), sites))
        h = h + self.out(self._attended(self.qkv(self.attention_norm(h)), sites))
        return h + self.feed_forward(h)

    def _neighbours(self, h: Rows, sites: int) -> Rows:
        """Sites i - reach .. i + ahead of the same string side by side, zeros beyond its ends."""
        strings, copies = h.reshape(-1, sites, h.shape[1]), self.reach + 1 + self.ahead
        padded = jnp.pad(strings, ((0, 0), (self.reach, self.ahead), (0, 0)))
        return jnp.concatenate([padded[:, i : i + sites] for i in range(copies)], -1).reshape(len(h), -1)

    def _attended(self, qkv: Rows, sites: int) -> Rows:
        heads = qkv.reshape(-1, sites, 3, self.num_heads, qkv.shape[1] // (3 * self.num_heads))
        query, key, value = jnp.einsum("bsnhd->nbhsd", heads)
        scores = jnp.einsum("bhqd,bhkd->bhqk", query, key) * query.shape[-1] ** -0.5
        if self.causal:
            scores = jnp.where(jnp.tri(sites, dtype=bool)[None, None], scores, -jnp.inf)  # each site sees itself
        weights = jax.nn.softmax(scores.astype(jnp.promote_types(scores.dtype, jnp.float32))).astype(value.dtype)
        return jnp.einsum("bhqk,bhkd->bqhd", weights, value).reshape(len(qkv), -1)
