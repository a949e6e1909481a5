"""Exact denoisers: the empirical one is Bayes' rule over a list, the grammar's the same over all of its strings."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import GaussianProcess, Masking, UniformNoise
from hierarchical import RandomHierarchyModel
from tests.grammars import enumerated
from tests.laws import assert_drawn_from, count
from tests.references import channels
from theory.exact import EmpiricalDenoiser, GrammarDenoiser
from theory.inference.evidence import noised_evidence as evidence

V = 3
PROCESSES = [Masking(V), UniformNoise(V), GaussianProcess(V)]
NAMES = [type(process).__name__ for process in PROCESSES]
MASKED = [[3, 3, 3, 3], [3, 0, 3, 3], [0, 3, 3, 1]]


def all_strings():
    rhm, data = enumerated("uniform")
    return rhm, np.array([levels[-1] for _, levels in data], np.int32)


def noised(process, strings, t, batch=6):
    x0 = jnp.asarray(strings[:batch])
    keys = jax.random.split(jax.random.key(0), batch)
    return jax.jit(jax.vmap(process.corrupt, (0, 0, None)))(keys, x0, t), jnp.full(batch, t)


def bayes(strings, process, x_t, t):
    """p(x_0^i | x_t) and the weights of the strings, from the densities written out."""
    x_t = np.asarray(x_t)
    if x_t.ndim == 2:
        table = (channels.masking if isinstance(process, Masking) else channels.uniform)(V, t)
        weights = channels.likelihoods(strings, x_t, table).T
    else:
        residual = x_t[:, None] - np.exp(-t) * np.eye(V)[strings][None]  # (batch, n, sites, v)
        weights = np.exp(-(residual**2).sum((2, 3)) / (2 * (1 - np.exp(-2 * t))))
    weights /= weights.sum(1, keepdims=True)
    return channels.site_marginals(weights, strings, V), weights


@pytest.mark.parametrize("process", PROCESSES, ids=NAMES)
def test_empirical_posterior_is_bayes_rule_over_the_training_set(process):
    _, strings = all_strings()
    some, t = strings[::3], 0.6
    x_t, times = noised(process, some, t)
    denoiser = EmpiricalDenoiser(data=jnp.asarray(some), process=process)
    marginals, weights = bayes(some, process, x_t, t)
    np.testing.assert_allclose(jnp.exp(eqx.filter_jit(denoiser.log_weights)(x_t, times)), weights, atol=1e-12)
    np.testing.assert_allclose(jnp.exp(denoiser(x_t, times)), marginals, atol=1e-12)


@pytest.mark.parametrize("process", PROCESSES, ids=NAMES)
def test_the_empirical_cavity_is_bayes_rule_over_the_other_sites(process):
    """At visible sites too, and of strings that are not in the set, some of which no datum explains at a site."""
    _, strings = all_strings()
    some, t = strings[::3], 0.6
    x_t, times = noised(process, strings, t)
    if isinstance(process, Masking):
        x_t = jnp.concatenate([x_t, jnp.asarray(channels.all_strings(V, 4)[::5], jnp.int32)])
        times = jnp.full(len(x_t), t)
    factors = np.asarray(process.site_evidence(x_t, times.reshape(-1, *(1,) * (x_t.ndim - 1))))
    found = np.exp(EmpiricalDenoiser(data=jnp.asarray(some), process=process).cavity(x_t, times))
    for site in range(4):
        others = [i for i in range(4) if i != site]
        weights = np.exp(sum(factors[:, i][:, some[:, i]] for i in others))
        expected = weights @ np.eye(V)[some[:, site]]
        total = expected.sum(1, keepdims=True)
        np.testing.assert_allclose(found[:, site], expected / np.where(total > 0, total, 1), atol=1e-12)
    assert isinstance(process, Masking) == bool((found == 0).all(-1).any())


def test_a_string_that_occurs_twice_weighs_twice():
    denoiser = EmpiricalDenoiser(data=jnp.array([[0, 1], [0, 1], [2, 1]]), process=Masking(V))
    got = jnp.exp(denoiser(jnp.array([[3, 1]]), jnp.array([0.5])))
    np.testing.assert_allclose(got[0], [[2 / 3, 0, 1 / 3], [0, 1, 0]], atol=1e-15)


@pytest.mark.parametrize(
    "process", [PROCESSES[0], *(pytest.param(p, marks=pytest.mark.slow) for p in PROCESSES[1:])], ids=NAMES
)
def test_empirical_and_grammar_agree_when_every_string_is_in_the_training_set(process):
    rhm, strings = all_strings()
    x_t, times = noised(process, strings, 0.6)
    got = EmpiricalDenoiser(data=jnp.asarray(strings), process=process)(x_t, times)
    np.testing.assert_allclose(jnp.exp(got), jnp.exp(GrammarDenoiser(rhm=rhm, process=process)(x_t, times)), atol=1e-12)


@pytest.mark.parametrize("kind", ["empirical", "grammar"])
def test_posterior_samples_follow_the_posterior_over_strings(kind):
    rhm, strings = all_strings()
    process, draws = Masking(V), 20_000
    denoiser = (
        EmpiricalDenoiser(data=jnp.asarray(strings), process=process)
        if kind == "empirical"
        else GrammarDenoiser(rhm=rhm, process=process)
    )
    x_t = jnp.array([3, int(strings[0, 1]), 3, 3], jnp.int32)
    sample = denoiser.posterior_sample(jax.random.key(1), jnp.tile(x_t, (draws, 1)), jnp.full(draws, 0.5))
    assert_drawn_from(count(sample, strings), bayes(strings, process, x_t[None], 0.5)[1])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("kind", ["empirical", "grammar"])
def test_impossible_strings_have_rows_of_minus_infinity(kind, dtype):
    """Of all strings, some are not in the language: shown whole (t = 0), no datum can have become them."""
    rhm, strings = all_strings()
    process = Masking(V)
    denoiser = (
        EmpiricalDenoiser(data=jnp.asarray(strings), process=process)
        if kind == "empirical"
        else GrammarDenoiser(rhm=rhm, process=process)
    )
    every = channels.all_strings(V, 4)
    possible = (every[:, None] == strings[None]).all(-1).any(-1)
    assert 0 < possible.sum() < len(every)
    got = np.asarray(denoiser(jnp.asarray(every, jnp.int32), jnp.zeros(len(every), dtype)))
    assert got.dtype == dtype and not np.isnan(got).any()
    assert (got[~possible] == -np.inf).all()
    np.testing.assert_allclose(np.exp(got[possible]), np.eye(V)[every[possible]], atol=1e-6)


def test_grammar_refuses_a_process_with_another_alphabet():
    with pytest.raises(ValueError, match="the grammar has 3 symbols, the process 4: make them agree"):
        GrammarDenoiser(rhm=all_strings()[0], process=Masking(4))


def test_grammar_refuses_strings_whose_messages_fit_no_memory():
    deep = RandomHierarchyModel(2, 2, 2, 40, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"\(depth = 40, branching = 2\) needs .* TiB .*: lower depth or branching"):
        GrammarDenoiser(rhm=deep, process=Masking(2))


def test_training_set_with_symbols_outside_the_alphabet_is_refused():
    """Indexing with them would be clamped silently; the mask is such a symbol."""
    with pytest.raises(ValueError, match=r"x0 holds the symbol 3: give symbols 0 \.\. 2"):
        EmpiricalDenoiser(data=jnp.asarray(MASKED), process=Masking(V))


def test_empty_training_set_is_refused():
    with pytest.raises(ValueError, match="the training set has shape \\(0, 4\\)"):
        EmpiricalDenoiser(data=jnp.zeros((0, 4), int), process=Masking(V))


def test_many_data_go_in_pieces_and_are_compiled_once(monkeypatch):
    rhm, strings = all_strings()
    denoiser, traced = GrammarDenoiser(rhm=rhm, process=Masking(V)), []
    x_t, t = noised(denoiser.process, strings, 0.5)
    whole = denoiser(x_t, t)
    monkeypatch.setattr("theory.exact.grammar.data_at_once", lambda rhm: 4)  # seven data: two pieces of four
    monkeypatch.setattr("theory.exact.grammar.noised_evidence", lambda *given: traced.append(given) or evidence(*given))
    x_t, t = jnp.concatenate([x_t, x_t[:1]]), jnp.concatenate([t, t[:1]])  # a shape that nothing was compiled for
    for _ in range(2):
        np.testing.assert_allclose(denoiser(x_t, t), jnp.concatenate([whole, whole[:1]]), rtol=1e-12)
        assert len(traced) == 1


def test_a_training_set_with_a_wrong_symbol_inside_jit_reads_nothing_for_it():
    weights = jax.jit(lambda data: EmpiricalDenoiser(data, Masking(3)).log_weights(jnp.array([3, 3]), 0.5))
    np.testing.assert_allclose(jnp.exp(weights(jnp.array([[-1, 2], [0, 1]]))), [0, 1])
