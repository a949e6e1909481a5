"""A saved denoiser comes back with the same bits; what cannot be read is refused with the reason."""

import hashlib
import inspect
import json
import math
import shutil

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusion import (
    BeliefEmbedding,
    ConvUNet,
    DenseVAE,
    EpsilonBelief,
    FolderError,
    GaussianProcess,
    LinearVAE,
    Masking,
    MeanWeight,
    MinSNRWeight,
    NoiseWeight,
    OutputWeight,
    Preconditioned,
    PredictMean,
    PredictNoise,
    PredictVelocity,
    TokenEmbedding,
    Transformer,
    TreeUNet,
    UniformNoise,
    VarianceExploding,
    VectorMLP,
    VectorProcess,
    from_equinox,
    from_flax,
    from_function,
    from_host,
    from_vae,
    load,
    save,
)
from tests.grammars import enumerated
from theory.exact import GrammarDenoiser

V, SITES = 3, 4
TOKENS = [Masking(V), UniformNoise(V), EpsilonBelief(V), GaussianProcess(V), GaussianProcess(V, VarianceExploding())]
VECTORS = [
    (VectorProcess(), Preconditioned(1.7), OutputWeight()),
    (VectorProcess(), PredictMean(), MeanWeight()),
    (VectorProcess(VarianceExploding()), PredictNoise(), NoiseWeight()),
    (VectorProcess(VarianceExploding()), PredictVelocity(), MinSNRWeight(math.inf)),
]


def tree(process, seed=0):
    return from_flax(TreeUNet(process, (2, 2), 8, rngs=nnx.Rngs(seed)), process, SITES, blind=True)


def transformer(process, embedding, seed=0):
    rngs = nnx.Rngs(seed)
    network = Transformer(embedding(process, 8, rngs=rngs), SITES, V, 8, 1, 2, reach=1, rngs=rngs)
    return from_flax(network, process, SITES)


def vectors(network, shape, process, parametrisation, weighting):
    return from_flax(network, process, shape, parametrisation=parametrisation, weighting=weighting)


def mlp(*parts):
    return vectors(VectorMLP(4, 8, 2, rngs=nnx.Rngs(0)), 4, *parts)


def unet(*parts):
    return vectors(ConvUNet(1, 4, 2, rngs=nnx.Rngs(0)), (4, 4, 1), *parts)


DENOISERS = {  # each process and each reading once, then each network with each of them
    "each": lambda: [
        *(tree(process) for process in TOKENS),
        *(mlp(*parts) for parts in VECTORS),
        transformer(TOKENS[0], TokenEmbedding),
        transformer(TOKENS[4], BeliefEmbedding),
        unet(*VECTORS[0]),
    ],
    "all": lambda: [
        *(transformer(process, BeliefEmbedding) for process in TOKENS[:4]),
        *(unet(*parts) for parts in VECTORS[1:]),
    ],
}


def moved(denoiser):
    """Its parameters are not those of initialisation."""
    return eqx.tree_at(lambda d: d.params, denoiser, jax.tree.map(lambda p: p + 0.1, denoiser.params))


def assert_same(a, b):
    """The same static structure, so the same function, and the same bits."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert eqx.filter(a, eqx.is_array, inverse=True) == eqx.filter(b, eqx.is_array, inverse=True)
    for x, y in zip(*(jax.tree.leaves(eqx.filter(z, eqx.is_array)) for z in (a, b)), strict=True):
        assert x.dtype == y.dtype
        data = [jax.random.key_data(z) if jnp.issubdtype(z.dtype, jax.dtypes.prng_key) else z for z in (x, y)]
        np.testing.assert_array_equal(*data)


@pytest.mark.parametrize("which", ["each", pytest.param("all", marks=pytest.mark.slow)])
def test_every_network_comes_back_with_the_same_bits(which, tmp_path):
    for number, denoiser in enumerate(map(moved, DENOISERS[which]())):
        save(denoiser, tmp_path / str(number))
        assert_same(load(tmp_path / str(number)), denoiser)


AUTOENCODERS = {
    "linear": lambda: from_vae(LinearVAE(4, 2, centre=[1, 2, 3, 4], scale=3, rngs=nnx.Rngs(0)), tau=0.1),
    "dense": lambda: from_vae(DenseVAE(4, 2, 8, 1, scale=0.3, rngs=nnx.Rngs(0)), tau=0.1),
    "learned": lambda: from_vae(LinearVAE(4, 2, rngs=nnx.Rngs(0)), beta=0.3),
}


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_every_autoencoder_comes_back_with_the_same_bits(name, tmp_path):
    made = AUTOENCODERS[name]()
    moved = made.with_trainable(jax.tree.map(lambda p: p + 0.1, made.trainable))
    save(moved, tmp_path / name)
    assert_same(load(tmp_path / name), moved)
    assert_same(load(tmp_path / name, made), moved)


def test_an_autoencoder_of_another_tau_is_another(tmp_path):
    save(AUTOENCODERS["linear"](), tmp_path / "linear")
    other = from_vae(LinearVAE(4, 2, rngs=nnx.Rngs(0)), tau=0.2)
    with pytest.raises(FolderError, match=r"denoiser\.noise\.tau is 0\.1 there, 0\.2 in like"):
        load(tmp_path / "linear", other)
    with pytest.raises(FolderError, match=r"denoiser\.noise is FixedNoise there, LearnedNoise in like"):
        load(tmp_path / "linear", AUTOENCODERS["learned"]())


def test_bfloat16_parameters_come_back_as_such(tmp_path):
    half = eqx.tree_at(lambda d: d.params, tree(TOKENS[0]), replace_fn=lambda p: jax.tree.map(cast, p))
    save(half, tmp_path / "half")
    assert_same(load(tmp_path / "half"), half)


def cast(leaf):
    return leaf.astype(jnp.bfloat16)


class Own(eqx.Module):
    """A user's network, with functions, keys and integers among its fields."""

    table: jax.Array
    key: jax.Array
    order: jax.Array
    bend: object = jnp.tanh

    def __call__(self, x_t, t):
        return self.bend(self.table[x_t])


def own(seed=0, width=V, dtype=jnp.float32):
    table = jax.random.normal(jax.random.key(seed), (V + 1, width), dtype)
    return from_equinox(Own(table, jax.random.key(seed), jnp.arange(seed + 3)[:3]), Masking(width), SITES)


class OwnFlax(nnx.Module):
    def __init__(self, hidden=4):
        rngs = nnx.Rngs(0)
        self.embed, self.norm = nnx.Embed(V + 1, hidden, rngs=rngs), nnx.BatchNorm(hidden, rngs=rngs)
        self.readout = nnx.Linear(hidden, V, rngs=rngs)

    def __call__(self, x_t, t):
        return self.readout(self.embed(x_t))


def function(table, x_t, t):
    return table["a"][x_t]


def test_a_network_of_ones_own_comes_back_in_a_denoiser_like_it(tmp_path):
    pairs = {
        "equinox": (own(), own(1)),
        "flax": (from_flax(OwnFlax(), Masking(V), SITES), from_flax(OwnFlax(), Masking(V), SITES)),
        "function": tuple(from_function(function, {"a": table}, Masking(V), SITES) for table in (ones(), ones() + 1)),
    }
    for name, (denoiser, like) in pairs.items():
        save(denoiser, tmp_path / name)
        assert_same(load(tmp_path / name, like), denoiser)
        with pytest.raises(FolderError, match="is not of this library; give a denoiser of the same structure as like="):
            load(tmp_path / name)


def ones():
    return jnp.ones((V + 1, V), jnp.float32)


def test_a_network_of_ours_that_was_changed_counts_as_the_users_own(tmp_path):
    def changed():
        network = TreeUNet(Masking(V), (2, 2), 8, rngs=nnx.Rngs(0))
        network.readout = nnx.Linear(8, V, use_bias=False, rngs=nnx.Rngs(1))
        return from_flax(network, Masking(V), SITES)

    save(changed(), tmp_path / "changed")
    with pytest.raises(FolderError, match="the network is TreeUNet, which is not of this library"):
        load(tmp_path / "changed")
    assert_same(load(tmp_path / "changed", changed()), changed())


UNLIKE = {
    r"denoiser\.process\.num_symbols is 3 there, 4 in like": lambda: own(width=4),
    r"table of dtype float32, the network has dtype float64": lambda: own(dtype=jnp.float64),
    r"denoiser\.network is Own there, OwnFlax in like": lambda: from_flax(OwnFlax(), Masking(V), SITES),
    r"denoiser\.process is Masking there, UniformNoise in like": lambda: eqx.tree_at(
        lambda d: d.process, own(), UniformNoise(V), is_leaf=lambda x: isinstance(x, Masking)
    ),
}


@pytest.mark.parametrize("difference", UNLIKE)
def test_the_first_difference_to_like_is_named(difference, tmp_path):
    save(own(), tmp_path / "own")
    with pytest.raises(FolderError, match=difference):
        load(tmp_path / "own", UNLIKE[difference]())


@pytest.mark.parametrize(
    ("hidden", "message"),
    [(4, r"holds array params\['b'\], which the network has no: it is another network"), (5, r"of shape \[4, 3\]")],
)
def test_other_arrays_than_those_of_like_are_named(hidden, message, tmp_path):
    save(from_function(function, {"a": ones(), "b": ones()}, Masking(V), SITES), tmp_path / "two")
    rest = {} if hidden == 4 else {"b": jnp.ones((5, V), jnp.float32)}
    with pytest.raises(FolderError, match=message):
        load(tmp_path / "two", from_function(function, {"a": ones(), **rest}, Masking(V), SITES))


def test_a_flipped_bit_in_any_file_is_noticed(tmp_path):
    save(own(), tmp_path / "own")
    files = [file for file in (tmp_path / "own").rglob("*") if file.is_file()]
    assert len(files) > 5
    for file in files:
        content = file.read_bytes()
        for place in {0, len(content) // 2, len(content) - 2} & set(range(len(content))):
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(FolderError, match="damaged"):
                load(tmp_path / "own", own())
        file.unlink()
        with pytest.raises(FolderError, match=r"damaged|holds no saved denoiser"):
            load(tmp_path / "own", own())
        file.write_bytes(content)
    assert_same(load(tmp_path / "own", own(1)), own())


def rewritten(folder, change):
    """The description changed with its checksum, as another program would write it."""
    file, sums = folder / "denoiser.json", folder / "checksums.json"
    file.write_text(change(file.read_text()))
    checksums = json.loads(sums.read_text())
    checksums["denoiser.json"] = hashlib.sha256(file.read_bytes()).hexdigest()
    sums.write_text(json.dumps(checksums))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"format": 1', '"format": 2'), "has format 2, this program reads format 1"),
        (lambda text: text.replace('"TreeUNet"', '"builtins.exec"'), "builtins.exec, which is not of this library"),
        (lambda text: text.replace('"Masking"', '"Blanking"'), "Blanking is not a class of this library"),
        (lambda text: text.replace('"width"', '"breadth"'), "unexpected keyword argument 'breadth'"),
        (lambda text: text.replace('"num_symbols": 3', '"num_symbols": 1'), "needs at least 2 symbols"),
        (lambda text: "[" * 100_000, "is damaged"),
        (lambda text: "[1, 2]", "is damaged"),
    ],
)
def test_a_description_that_this_program_cannot_use_is_refused(change, message, tmp_path):
    save(tree(Masking(V)), tmp_path / "tree")
    rewritten(tmp_path / "tree", change)
    with pytest.raises(FolderError, match=message):
        load(tmp_path / "tree")


def test_a_folder_without_a_denoiser_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(FolderError, match=r"holds no saved denoiser: there is no denoiser\.json in it"):
            load(folder)


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    with pytest.raises(FolderError, match="full exists already: choose another folder, or delete it"):
        save(own(), tmp_path / "full")
    assert [entry.name for entry in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    (tmp_path / "empty").mkdir()
    save(own(), tmp_path / "empty")
    assert_same(load(tmp_path / "empty", own(1)), own())


def test_a_folder_that_cannot_be_written_is_an_error_of_the_system(tmp_path):
    """Below a regular file nobody can make a folder, not even root."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write .*file/own: Not a directory"):
        save(own(), tmp_path / "file" / "own")


def test_what_a_kill_left_is_removed(tmp_path):
    shutil.copytree(tmp_path, tmp_path / ".own.part")
    save(own(), tmp_path / "own")
    assert [entry.name for entry in tmp_path.iterdir()] == ["own"]


def test_a_function_of_the_host_has_nothing_to_save(tmp_path):
    denoiser = from_host(lambda x_t, t: np.zeros((*x_t.shape, V)), Masking(V), SITES)
    with pytest.raises(ValueError, match="holds no arrays: save its network in the library that it comes from"):
        save(denoiser, tmp_path / "host")


def test_what_is_no_network_is_not_saved(tmp_path):
    exact = GrammarDenoiser(enumerated("uniform")[0], Masking(V))
    with pytest.raises(ValueError, match="GrammarDenoiser is not made of a network: save what it is made of"):
        inspect.unwrap(save)(exact, tmp_path / "exact")  # without the tests' type checker, which refuses it first
