"""Inference inside a user's program: compiled, mapped, scanned, differentiated, it is what a direct call gives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import UniformNoise
from hierarchical import RandomHierarchyModel
from tests.grammars import enumerated
from theory import NoisedStrings, cavity_marginals, log_evidence, marginals, posterior_sample, rule_counts
from theory.inference import logarithmic, transforms
from theory.inference.fast import segments
from theory.inference.operation import Operation

only_fast = pytest.mark.parametrize("formulated", ["fast"], indirect=True)  # where the safe one adds nothing
RHM = RandomHierarchyModel(3, 2, 2, 2, key=jax.random.key(0), zipf_exponent=(1.0, 0.5))
TABLES = {"marginals": marginals, "cavity_marginals": cavity_marginals, "log_evidence": log_evidence}


@pytest.fixture(scope="module", params=[pytest.param("safe", marks=pytest.mark.slow), "fast"])
def formulated(request):
    """Both formulations at a size that takes no time: the fast one where there is any work at all."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "fast":
            patch.setattr(segments, "LEAST_WORK", 0)
        assert segments.pays(RHM, 1) == (request.param == "fast")
        yield request.param
    jax.clear_caches()  # programs know nothing of the size that was set


def evidence(seed=0, shape=(5,), dtype=np.float64):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(*shape, RHM.num_leaves, RHM.num_symbols)), dtype)


def known(function, given, rhm=RHM):
    """By logarithms, in one program."""
    rows = given.reshape(-1, *given.shape[-2:])
    answer = jax.jit(getattr(logarithmic, function))(rhm, rows)
    return jax.tree.map(lambda x: x.reshape(*given.shape[:-2], *x.shape[1:]), answer)


def same(found, want, atol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, want)


def test_compiled_mapped_and_scanned_it_is_the_same(formulated):
    given = evidence(shape=(2, 3))
    want = known("marginals", given)
    same(eqx.filter_jit(jax.vmap(marginals, (None, 0)))(RHM, given), want)
    same(jax.vmap(lambda one: marginals(RHM, one), 1, 1)(given), want)
    same(jax.jit(lambda e: jax.lax.scan(lambda n, part: (n, marginals(RHM, part)), 0, e)[1])(given), want)
    same(jax.jit(jax.checkpoint(marginals))(RHM, given), want)


@only_fast
@pytest.mark.parametrize("name", [pytest.param("cavity_marginals", marks=pytest.mark.slow), "log_evidence"])
def test_a_function_of_one_datum_is_mapped_twice(name, formulated):
    given = evidence(shape=(2, 3))
    found = jax.jit(jax.vmap(jax.vmap(lambda one: TABLES[name](RHM, one))))(given)
    same(found, known(name, given))


def test_grammars_may_be_mapped(formulated):
    """An ensemble of rule tables: the same evidence for all, or one for each."""
    grammars = [RandomHierarchyModel(3, 2, 2, 2, key=jax.random.key(n), zipf_exponent=(1.0, 0.5)) for n in range(3)]
    together, given = jax.tree.map(lambda *tables: jnp.stack(tables), *grammars), evidence(shape=(3, 4))
    each = [known("log_evidence", given[n], rhm) for n, rhm in enumerate(grammars)]
    same(jax.jit(jax.vmap(log_evidence))(together, given), jnp.stack(each))
    each = [known("log_evidence", given[0], rhm) for rhm in grammars]
    same(jax.vmap(log_evidence, (0, None))(together, given[0]), jnp.stack(each))


@pytest.mark.slow
@only_fast
def test_strings_times_and_both_may_be_mapped(formulated):
    process = UniformNoise(3)
    x_t, t = np.asarray(RHM.sample(jax.random.key(1), (4,)).x), np.array([0.1, 0.3, 0.5, 0.7])

    def posterior(x_t, t):
        return marginals(RHM, NoisedStrings(process, x_t, t))

    want = posterior(x_t, t)
    same(jax.jit(jax.vmap(posterior))(x_t, t), want)
    same(jax.vmap(posterior, (0, None))(x_t, 0.3), posterior(x_t, np.full(4, 0.3)))
    same(jax.vmap(posterior, (None, 0))(x_t[0], t), posterior(np.tile(x_t[0], (4, 1)), t))


@only_fast
def test_what_is_not_reliable_is_overwritten(formulated):
    """Unobserved symbols of probability e^-500, and a datum that no string of the grammar explains."""
    data = np.array(RHM.sample(jax.random.key(2), (19,)).x)
    given = np.where(np.eye(3, dtype=bool)[data], 0.0, -500.0).astype(np.float32)
    given[1] = -np.inf
    same(jax.jit(marginals)(RHM, given), known("marginals", jnp.asarray(given, float)), 1e-5)
    drawn = jax.jit(posterior_sample)(jax.random.key(3), RHM, given)
    assert (np.delete(np.asarray(drawn.leaves) == data, 1, 0)).all() and not drawn.valid[0][1]
    given[0, 0, 0] = np.nan
    with pytest.raises(RuntimeError, match="NaN or"):
        jax.block_until_ready(jax.jit(marginals)(RHM, jnp.asarray(given)))


@pytest.mark.slow
@only_fast
def test_draws_are_those_of_a_direct_call(formulated):
    key, given = jax.random.key(4), evidence()
    want = posterior_sample(key, RHM, given)
    found = jax.jit(posterior_sample)(jax.random.clone(key), RHM, given)
    jax.tree.map(np.testing.assert_array_equal, found, want)
    keys = jax.random.split(jax.random.key(5), 5)
    mapped = jax.vmap(lambda k, one: posterior_sample(k, RHM, one))(jax.random.clone(keys), given)
    for n in range(5):
        one = posterior_sample(keys[n], RHM, given[n])
        jax.tree.map(lambda a, b, n=n: np.testing.assert_array_equal(a[n], b), mapped, one)


def with_rules(log_probs):
    return eqx.tree_at(lambda rhm: rhm.rule_log_probs, RHM, log_probs)


def by_logarithms(log_probs, given):
    return logarithmic.log_evidence(with_rules(log_probs), given).sum()


def ours(log_probs, given):
    return log_evidence(with_rules(log_probs), given).sum()


@only_fast
def test_the_slope_of_the_evidence_is_the_posterior_and_the_counts_of_rules(formulated):
    given, rules = evidence(), RHM.rule_log_probs
    of_rules, of_sites = jax.jit(jax.grad(ours, (0, 1)))(rules, given)
    same(of_sites, marginals(RHM, given)[-1])
    same(of_rules, jax.tree.map(lambda n: n.sum(0), rule_counts(RHM, given)), 1e-11)
    same((of_rules, of_sites), jax.jit(jax.grad(by_logarithms, (0, 1)))(rules, given), 1e-11)
    one = jax.jit(jax.vmap(jax.grad(lambda e: log_evidence(RHM, e))))
    same(one(given), of_sites)
    same(jax.jit(jax.grad(lambda e: jax.checkpoint(ours)(rules, e)))(given), of_sites)


@pytest.mark.slow
@only_fast
def test_forward_and_second_derivatives_are_those_of_logarithms(formulated):
    given, rules = evidence(), RHM.rule_log_probs
    direction = jax.tree.map(jnp.cos, (rules, given))
    found = jax.jit(lambda *at: jax.jvp(ours, at, direction))(rules, given)
    same(found, jax.jit(lambda *at: jax.jvp(by_logarithms, at, direction))(rules, given), 1e-11)

    def twice(function):
        return jax.jit(lambda *at: jax.jvp(jax.grad(function, (0, 1)), at, direction)[1])(rules, given)

    same(twice(ours), twice(by_logarithms), 1e-10)


@pytest.mark.slow
@only_fast
def test_the_slope_by_the_noise_is_that_of_finite_differences(formulated):
    """Of strings whose evidence is not written out; at sites that exclude a symbol too."""
    x_t = np.asarray(RHM.sample(jax.random.key(6), (3,)).x)

    def total(t):
        return log_evidence(RHM, NoisedStrings(UniformNoise(3), x_t, t)).sum()

    t, step = np.array([0.2, 0.4, 0.6]), 1e-5
    want = [(total(t + step * row) - total(t - step * row)) / (2 * step) for row in np.eye(3)]
    np.testing.assert_allclose(jax.jit(jax.grad(total))(jnp.asarray(t)), want, rtol=1e-7)


@pytest.mark.slow
@only_fast
def test_single_precision_is_enough_for_programs(formulated):
    """As users have JAX, without float64."""
    with jax.enable_x64(False):
        rhm, given = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), RHM), evidence(dtype=np.float32)
        found = jax.jit(jax.vmap(marginals, (None, 0)))(rhm, given)
        slope = jax.jit(jax.grad(lambda e: log_evidence(rhm, e).sum()))(given)
    assert all(table.dtype == jnp.float32 for table in (*found, slope))
    same((found, slope), (known("marginals", evidence()), known("marginals", evidence())[-1]), 1e-5)


def test_a_filtered_grammar_has_the_derivatives_of_logarithms():
    rhm, _ = enumerated("filtered-1")
    given = evidence(seed=1)

    def total(log_probs, function):
        return function(eqx.tree_at(lambda r: r.rule_log_probs, rhm, log_probs), given).sum()

    slopes = [jax.jit(jax.grad(total), static_argnums=1)(rhm.rule_log_probs, f)
              for f in (log_evidence, logarithmic.log_evidence)]  # fmt: skip
    same(*slopes)


@only_fast
def test_impossible_evidence_has_no_slope(formulated):
    given = evidence().at[0].set(-jnp.inf)
    slope = jax.jit(jax.grad(lambda e: log_evidence(RHM, e).sum()))(given)
    assert (slope[0] == 0).all()
    same(slope[1:], marginals(RHM, given[1:])[-1])


@only_fast
def test_a_search_for_nan_finds_none(formulated):
    """With `jax_debug_nans` on, evidence that excludes symbols, and a datum that is impossible."""
    shown = np.eye(3, dtype=bool)[np.asarray(RHM.sample(jax.random.key(7), (5,)).x)]
    given = jnp.where(shown | (np.arange(4) > 1)[:, None], evidence(), -jnp.inf).at[0].set(-jnp.inf)
    with jax.debug_nans(True):
        found = jax.jit(jax.value_and_grad(lambda e: log_evidence(RHM, e)[1:].sum()))(given)
        assert all(np.isfinite(x).all() for x in found)


def test_pieces_of_the_safe_answer_cover_every_batch():
    operation = Operation(logarithmic.log_evidence, None, None)
    for batch in (1, 9):
        given = evidence(shape=(batch,))
        answer, allowed = transforms._in_few_pieces(operation, (RHM, given))
        assert allowed
        same(answer, known("log_evidence", given))
