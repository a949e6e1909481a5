"""A second call of a public function, with new keys and values of the same shapes, compiles nothing."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import monitoring

from diffusion import (
    DDIM,
    Ancestral,
    DenseVAE,
    Finite,
    FlowEnd,
    Masking,
    RandomOrder,
    Renoised,
    ReverseSDE,
    TrainConfig,
    UniformNoise,
    VectorProcess,
    forward_backward,
    from_function,
    from_vae,
    generate,
    train_autoencoder,
)
from diffusion.measure import (
    TreeGeometry,
    bootstrap,
    change_sums,
    connected_sums_within,
    is_copy,
    leading_pairs,
    level_retention,
    locate_transition,
    log_density,
    memorisation,
    probing,
    recovery,
    relevance,
    stein_subspace,
)
from hierarchical import GaussianMixture, MarkovChain, RandomHierarchyModel, Sphere, expand, sample_strings
from theory import (
    NoisedStrings,
    cavity_marginals,
    learning,
    log_evidence,
    marginals,
    posterior_covariance,
    posterior_sample,
    top_k,
)
from theory.ensemble.information import level_entropies
from theory.ensemble.pair_correlation import posterior_pairs
from theory.exact import EmpiricalDenoiser, GrammarDenoiser, MixtureDenoiser, seed_log_weights

RHM = RandomHierarchyModel(3, 2, 2, 2, key=jax.random.key(0))
DATA = sample_strings(jax.random.key(1), RHM, 6)
MASKS, NOISE, ARRAYS = Masking(3), UniformNoise(3), VectorProcess()
MIXTURE = GaussianMixture(np.ones(2), np.eye(2), 0.3)
SPHERE = Sphere(jax.random.key(0), 1, 3).noised(1, 0.5)
NETWORK = from_function(lambda params, x_t, t: params[x_t], jnp.zeros((4, 3)), MASKS, 4)
REPLACED = from_function(lambda params, x_t, t: params[x_t], jnp.zeros((3, 3)), NOISE, 4)
STATM = pathlib.Path("/proc/self/statm")  # sizes of this process in pages, on Linux
SLOPE = jax.jit(jax.grad(lambda rhm, evidence: log_evidence(rhm, evidence).sum(), argnums=1))


def grammar(seed):
    """Another grammar of the same sizes."""
    return RandomHierarchyModel(3, 2, 2, 2, key=jax.random.key(seed))


def evidence(seed):
    return jax.random.normal(jax.random.key(seed), (6, 4, 3))


def soft(seed):
    """A soft grammar of the same sizes."""
    return learning.SoftGrammar.random(jax.random.key(seed), 3, (2, 2))


def autoencoder(seed):
    """Another network and price of the same sizes."""
    return from_vae(DenseVAE(4, 2, 3, 1, rngs=nnx.Rngs(seed)), tau=seed / 10)


CALLS = {
    "grammar": grammar,
    "sample": lambda n: RHM.sample(jax.random.key(n)),
    "sample many": lambda n: RHM.sample(jax.random.key(n), (6,)),
    "parse": lambda n: RHM.parse((DATA + n) % 3),
    "log_evidence": lambda n: log_evidence(grammar(n), evidence(n)),
    "marginals": lambda n: marginals(grammar(n), evidence(n)),
    "marginals of one": lambda n: marginals(RHM, evidence(n)[0]),
    "cavity_marginals": lambda n: cavity_marginals(RHM, evidence(n)),
    "posterior_sample": lambda n: posterior_sample(jax.random.key(n), grammar(n), evidence(n)),
    "posterior_sample of one": lambda n: posterior_sample(jax.random.key(n), RHM, evidence(n)[0]),
    "noised strings": lambda n: marginals(RHM, NoisedStrings(NOISE, (DATA + n) % 3, 0.1 + n / 10)),
    "corrupt": lambda n: MASKS.corrupt(jax.random.key(n), (DATA + n) % 3, n / 10),
    "grammar denoiser": lambda n: GrammarDenoiser(grammar(n), MASKS)(DATA, n / 10),
    "empirical denoiser": lambda n: EmpiricalDenoiser((DATA + n) % 3, NOISE)(DATA, n / 10),
    "sphere": lambda n: SPHERE.laplacian(np.ones((5, 3)) * n),
    "mixture denoiser": lambda n: MixtureDenoiser(MIXTURE).score(jnp.ones((5, 2)) * n, n / 10),
    "forward_backward": lambda n: forward_backward(jax.random.key(n), GrammarDenoiser(grammar(n), NOISE), DATA, n / 10),
    "random order": lambda n: forward_backward(jax.random.key(n), NETWORK, DATA, n / 10, sampler=RandomOrder()),
    "ancestral": lambda n: forward_backward(jax.random.key(n), REPLACED, DATA, n / 10, sampler=Ancestral(4)),
    "reverse": lambda n: forward_backward(
        jax.random.key(n), MixtureDenoiser(MIXTURE), np.ones((3, 2)) * n, n / 10, sampler=ReverseSDE(4)
    ),
    "reverse by itself": lambda n: ReverseSDE(4)(
        jax.random.key(n), MixtureDenoiser(MIXTURE), np.ones((3, 2)) * n, n / 10
    ),
    "ancestral by itself": lambda n: Ancestral(4)(jax.random.key(n), REPLACED, (DATA + n) % 3, n / 10),
    "random order by itself": lambda n: RandomOrder()(jax.random.key(n), NETWORK, (DATA + n) % 3, n / 10),
    "markov chain": lambda n: MarkovChain(np.ones(3) / 3, np.ones((3, 3, 3)) / 3).sample(jax.random.key(n), (5,)),
    "markov chain, one": lambda n: MarkovChain(np.ones(3) / 3, np.ones((3, 3, 3)) / 3).sample(jax.random.key(n)),
    "generate": lambda n: generate(jax.random.key(n), NETWORK, 3),
    "end of the flow": lambda n: FlowEnd(MixtureDenoiser(MIXTURE), DDIM(4))(np.ones((3, 2)) * n, n / 10),
    "renoised": lambda n: Renoised(2)(
        jax.random.key(n), FlowEnd(MixtureDenoiser(MIXTURE)), np.ones((3, 2)) * n, n / 10
    ),
    "expand": lambda n: expand(jax.random.key(n), grammar(n), DATA[:, :2], 1),
    "log_density": lambda n: log_density(MixtureDenoiser(MIXTURE), np.ones((3, 2)) * n, n / 10),
    "change_sums": lambda n: change_sums(
        jax.random.key(n), NETWORK, (DATA + n) % 3, jnp.asarray(n / 10), TreeGeometry((2, 2)), num_trajectories=3
    ),
    "level_retention": lambda n: level_retention(RHM, DATA, (DATA + n) % 3),
    "mixture": lambda n: MIXTURE.hessian_vector(jnp.ones((4, 2)) * n, jnp.ones((4, 2))),
    "posterior draws": lambda n: MIXTURE.posterior_sample(jax.random.key(n), np.ones((4, 2)) * n, n / 10, 0.5),
    "gradient": lambda n: SLOPE(grammar(n), evidence(n)),
    "top_k": lambda n: top_k(grammar(n), evidence(n), 2),
    "level_entropies": lambda n: level_entropies(grammar(n), evidence(n)),
    "posterior_pairs": lambda n: posterior_pairs(grammar(n), (DATA + n) % 3, evidence(n)),
    "seed_log_weights": lambda n: seed_log_weights(
        EmpiricalDenoiser((DATA + n) % 3, NOISE), (DATA + n) % 3, n / 10, np.arange(6)
    ),
    "connected_sums_within": lambda n: connected_sums_within((DATA + n) % 3, np.arange(4) // (n + 1)),
    "p_laplace": lambda n: memorisation.p_laplace(
        jax.random.key(n), MixtureDenoiser(MIXTURE), np.ones((3, 2)) * n, n / 10, p=float(n), radius=n
    ),
    "p_laplacian": lambda n: memorisation.p_laplacian(
        jax.random.key(n), MixtureDenoiser(MIXTURE), np.ones((3, 2)) * n, n / 10, p=float(n)
    ),
    "detect": lambda n: memorisation.detect(
        jax.random.key(n), MixtureDenoiser(MIXTURE), np.eye(2) * n, np.ones((3, 2)) * n, n / 10, data=np.eye(2) * n
    ),
    "split_scale": lambda n: memorisation.split_scale(
        jax.random.key(n), MixtureDenoiser(MIXTURE), np.eye(2) * n, np.ones((3, 2)) * n, np.array([0.1, 0.2]) * n
    ),
    "coordinate_collapse": lambda n: memorisation.coordinate_collapse(
        jax.random.key(n), EmpiricalDenoiser((DATA + n) % 3, NOISE), GrammarDenoiser(grammar(n), NOISE), DATA, n / 10
    ),
    "collapse in arrays": lambda n: memorisation.coordinate_collapse(
        jax.random.key(n), MixtureDenoiser(MIXTURE), EmpiricalDenoiser(np.eye(2) * n, ARRAYS), np.ones(2) * n, n / 10
    ),
    "learn": lambda n: learning.learn(soft(n), (DATA + n) % 3, num_steps=3).grammar.log_probs,
    "descend_likelihood": lambda n: learning.descend_likelihood(soft(n), (DATA + n) % 3, num_steps=3).log_likelihood,
    "posterior_covariance": lambda n: posterior_covariance(grammar(n), evidence(n)),
    "leading_pairs": lambda n: leading_pairs(jax.random.key(n), MixtureDenoiser(MIXTURE), np.ones((3, 2)) * n, n / 10),
    "stein_subspace": lambda n: (
        stein_subspace(jax.random.key(n), MixtureDenoiser(MIXTURE), np.eye(2) * n, n / 10).directions
    ),
    "linear_probe": lambda n: probing.linear_probe(np.arange(24.0).reshape(8, 3) % (n + 4), np.arange(8) % 2, 2),
    "fit_directions": lambda n: probing.fit_directions(
        np.arange(24.0).reshape(8, 3) % (n + 4), np.eye(2)[np.arange(8) % 2]
    ),
    "linear_cka": lambda n: probing.linear_cka(np.arange(24.0).reshape(8, 3) % (n + 4), np.eye(8) * n),
    "hyperbolic": lambda n: recovery.hyperbolic(jax.random.key(n), (1 - np.eye(3)) * n).points,
    "encode": lambda n: autoencoder(n).encode(np.ones((5, 4)) * n),
    "free_energy": lambda n: autoencoder(n).free_energy(jax.random.key(n), np.ones((5, 4)) * n),
    "relevance": lambda n: relevance.table(jax.random.key(n), autoencoder(n), np.eye(4) * n, n / 100),
    "latent_map": lambda n: relevance.latent_map(autoencoder(n), np.eye(4) * n, 0, 1, (2, 3)),
    "train_autoencoder": lambda n: train_autoencoder(
        jax.random.key(n), autoencoder(n), Finite(np.eye(4) * n), TrainConfig(steps=2, batch_size=3)
    ),
    "is_copy": lambda n: is_copy(np.ones((5, 2)) * n, np.eye(2) * n),
    "bootstrap": lambda n: bootstrap(jax.random.key(n), np.ones((5, 2), np.float32) * n, lambda mean: n * mean),
    "locate_transition": lambda n: locate_transition(
        jax.random.key(n), np.arange(7) + n, 1 / (1 + np.exp(np.tile(np.arange(7) - 2.5 - n, (3, 1))))
    ),
}


AGAIN = {  # slow: variants of another call of the list, or made of several
    "marginals of one", "posterior_sample of one", "reverse by itself", "ancestral by itself", "random order by itself",
    "markov chain, one", "mixture", "posterior draws", "p_laplacian", "detect", "split_scale", "collapse in arrays",
}  # fmt: skip


@pytest.fixture(scope="module")
def compiled():
    """The programs compiled so far, a list that grows."""
    programs = []

    def listen(event, duration, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            programs.append(event)

    monitoring.register_event_duration_secs_listener(listen)
    yield programs
    monitoring.clear_event_listeners()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in AGAIN else ()) for name in CALLS]
)
def test_a_second_call_compiles_nothing(name, compiled):
    jax.block_until_ready(CALLS[name](1))
    before = len(compiled)
    jax.block_until_ready(CALLS[name](2))
    assert len(compiled) == before


def test_two_hundred_grammars_compile_nothing_and_leave_nothing(compiled):
    """Each is built, asked and dropped; resident memory, where /proc tells it, grows by less than 8 MiB."""

    def ask(seed):
        rhm = RandomHierarchyModel(32, 8, 2, 3, key=jax.random.key(seed))
        jax.block_until_ready(log_evidence(rhm, jnp.zeros((8, 32))))

    def resident():
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if STATM.exists() else 0

    for seed in range(20):
        ask(seed)
    before, memory = len(compiled), resident()
    for seed in range(20, 220):
        ask(seed)
    assert len(compiled) == before
    assert resident() - memory < 8 * 2**20


def test_the_count_sees_a_program(compiled):
    before = len(compiled)
    jax.jit(lambda x: x + 1)(jnp.ones(17))
    assert len(compiled) > before
