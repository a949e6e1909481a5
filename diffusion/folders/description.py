"""A denoiser or an autoencoder as JSON: what it is made of, without its arrays.

An object of a class in the tables below becomes `{"kind": its name, argument: value, ...}`, and is made again by a call
of the class with these arguments. The tables are all that a file can name. Any other object, a user's own network say,
becomes `{"own": the name of its class, ...}`: enough to compare, not to make it again.
"""

import dataclasses
import numbers
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from flax import nnx

from ..denoise.apply import EquinoxApply, FlaxApply, WithStates
from ..denoise.network import AbstractNetworkDenoiser, NetworkDenoiser, VectorNetworkDenoiser
from ..denoise.parametrisation import (
    MeanWeight,
    MinSNRWeight,
    NoiseWeight,
    OutputWeight,
    Preconditioned,
    PredictMean,
    PredictNoise,
    PredictVelocity,
)
from ..latent.autoencoder import Autoencoder
from ..latent.decoder_noise import FixedNoise, LearnedNoise
from ..networks.conv_unet import ConvUNet
from ..networks.embeddings import BeliefEmbedding, TokenEmbedding
from ..networks.mlp import VectorMLP
from ..networks.transformer import Transformer
from ..networks.tree_unet import TreeUNet
from ..networks.vae import DenseVAE, LinearVAE
from ..networks.whitened_mlp import WhitenedMLP
from ..noise.gaussian import GaussianProcess, VarianceExploding, VariancePreserving, VectorProcess
from ..noise.strings import EpsilonBelief, Masking, UniformNoise

Saved = AbstractNetworkDenoiser | Autoencoder
"""What folders keep: a network, `apply` with `params`, and other fields beside it."""

NETWORKS: dict[type, tuple[str, ...]] = {
    TreeUNet: ("process", "branching", "width"),
    Transformer: ("embedding", "num_sites", "num_symbols", "width", "num_layers", "num_heads", "reach", "causal"),
    ConvUNet: ("channels", "width", "levels", "patch"),
    VectorMLP: ("dimension", "width", "num_blocks"),
    WhitenedMLP: ("dimension", "span", "data_std", "width", "num_blocks"),
    LinearVAE: ("dimension", "num_latents"),
    DenseVAE: ("dimension", "num_latents", "width", "num_layers"),
    BeliefEmbedding: ("process", "width"),
    TokenEmbedding: ("process", "width"),
}
"""Networks and embeddings, with the arguments of their constructors."""

NOISES: dict[type, tuple[str, ...]] = {FixedNoise: ("tau",), LearnedNoise: ("beta",)}
"""Noises of a decoder, with the arguments of their constructors."""

MODULES: tuple[type, ...] = (
    *(Masking, UniformNoise, EpsilonBelief, GaussianProcess, VectorProcess),
    *(VariancePreserving, VarianceExploding),
    *(Preconditioned, PredictMean, PredictNoise, PredictVelocity),
    *(OutputWeight, MeanWeight, NoiseWeight, MinSNRWeight),
    *(NetworkDenoiser, VectorNetworkDenoiser, Autoencoder),
)
"""Classes whose fields are the arguments of their constructors."""

_ARGUMENTS = NETWORKS | NOISES
_KINDS = {kind.__name__: kind for kind in (*_ARGUMENTS, *MODULES)}


def describe(model: Saved) -> dict[str, Any]:
    """All but arrays and functions; the network stands under "network"."""
    fields = {field.name for field in dataclasses.fields(model)} - {"apply", "params"}
    described = {name: _described(vars(model)[name]) for name in sorted(fields)}
    return {"kind": type(model).__name__, **described, "network": _described_network(model)}


def rebuilt(description: dict[str, Any]) -> Saved:
    """The denoiser or autoencoder that was described, with the shapes of its parameters in their place.

    Raises:
      ValueError: if it holds what is not in the tables.
    """
    arguments = {name: _made(value) for name, value in description.items() if name not in ("kind", "network")}
    network = description["network"]
    if network.get("kind") not in {kind.__name__ for kind in NETWORKS}:
        raise ValueError(f"the network is {network.get('own', network.get('kind'))}, which is not of this library")
    definition, params, rest = nnx.split(nnx.eval_shape(lambda: _made(network)), nnx.Param, ...)
    return _kind(description)(apply=FlaxApply(definition, rest), params=params, **arguments)


def _described_network(model: Saved) -> dict[str, Any]:
    apply = model.apply.apply if isinstance(model.apply, WithStates) else model.apply
    if isinstance(apply, FlaxApply):
        network = apply.network(model.params)
        described = _described(network)
        if type(network) not in NETWORKS or nnx.graphdef(nnx.eval_shape(lambda: _made(described))) != apply.definition:
            return {"own": type(network).__qualname__}  # also a network of ours that was changed after it was made
        return described
    return {"own": type(apply.rest if isinstance(apply, EquinoxApply) else apply).__qualname__}


def _described(value: Any) -> Any:
    """`value` as JSON; a tuple becomes a list, an array is left to where arrays are kept."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic) or (isinstance(value, jax.Array) and value.ndim == 0):
        return value.item()
    if isinstance(value, numbers.Real):
        return value
    if isinstance(value, tuple | list):
        return [_described(part) for part in value]
    fields = [field.name for field in dataclasses.fields(value)] if isinstance(value, eqx.Module) else []
    parts = {name: _described(vars(value)[name]) for name in _ARGUMENTS.get(type(value), fields)}
    return {"kind" if type(value) in (*_ARGUMENTS, *MODULES) else "own": type(value).__qualname__, **parts}


def _made(value: Any) -> Any:
    """The inverse of `_described`, from the tables alone."""
    if isinstance(value, list):
        return tuple(_made(part) for part in value)
    if not isinstance(value, dict):
        return value
    kind = _kind(value)
    arguments = {name: _made(part) for name, part in value.items() if name != "kind"}
    return kind(**arguments, rngs=nnx.Rngs(0)) if kind in NETWORKS else kind(**arguments)


def _kind(description: dict[str, Any]) -> Callable:
    name = description.get("kind")
    if name not in _KINDS:
        raise ValueError(f"{description.get('own', name)} is not a class of this library")
    return _KINDS[name]
