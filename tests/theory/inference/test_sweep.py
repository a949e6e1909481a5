"""The fast formulation of inference against enumeration and logarithms, and its guard at the edges of float32."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import Masking, UniformNoise
from hierarchical import RandomHierarchyModel
from tests.grammars import enumerated
from tests.references import enumeration
from theory import NoisedStrings, hard_evidence, log_evidence, marginals, posterior_sample
from theory.inference import logarithmic
from theory.inference.evidence import written_out
from theory.inference.fast import sweep
from theory.inference.fast.segments import LEVELS, SEGMENTS, data_at_once, in_pieces, pays, segments, serves
from theory.inference.formulation import _program
from theory.inference.operation import Operation, guarded

SIZES = {
    "binary": dict(num_symbols=4, num_synonyms=2, branching=2, depth=7),  # six data make three segments of it
    "short": dict(num_symbols=4, num_synonyms=2, branching=2, depth=5),  # two segments
    "large": dict(num_symbols=16, num_synonyms=4, branching=2, depth=7),  # 250 data are enough for the sweep
    "ternary": dict(  # levels of unequal sizes are padded
        num_symbols=(4, 6, 5),
        num_synonyms=(3, 2, 4),
        branching=3,
        depth=3,
        num_classes=2,
        zipf_exponent=(0.5, None, 1.0),
    ),
}

slow = eqx.filter_jit(lambda function, rhm, evidence: function(rhm, evidence))


@functools.cache
def grammar(name):
    return RandomHierarchyModel(**SIZES[name], key=jax.random.key(3 if name == "large" else 1))


def fast(function, rhm, evidence, cutting=SEGMENTS):
    """The very program that the public functions run, so that it is compiled once for both."""
    how = eqx.filter_jit if isinstance(evidence, NoisedStrings) else jax.jit
    operation = Operation(getattr(logarithmic, function.__name__), function, None)
    return _program(guarded, how)(operation, cutting, (rhm, evidence))


def suits(rhm, batch, dtype=jnp.float32):
    return serves(rhm, dtype) and pays(rhm, batch)


def mild_evidence(rhm, batch, dtype, seed=0):
    """Gaussian log-likelihoods with some sites masked and some symbols of a possible datum excluded."""
    rng = np.random.default_rng(seed)
    evidence = rng.normal(size=(batch, rhm.num_leaves, rhm.num_symbols))
    data = np.asarray(rhm.sample(jax.random.key(seed), batch).x)
    known = np.eye(rhm.num_symbols, dtype=bool)[data]
    evidence[:2, rng.random(rhm.num_leaves) < 0.5] = 0.0
    evidence[2:4] = np.where(known | (rng.random(known.shape) < 0.5), evidence, -np.inf)[2:4]
    return jnp.asarray(evidence.astype(dtype))


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [
        ("classes", np.float64, 1e-12),
        ("zipf", np.float32, 1e-5),
        pytest.param("classes", np.float32, 1e-5, marks=pytest.mark.slow),
        pytest.param("zipf", np.float64, 1e-12, marks=pytest.mark.slow),
    ],
)
def test_fast_marginals_match_enumeration(name, dtype, tolerance):
    rhm, data = enumerated(name)
    evidence = mild_evidence(rhm, 6, dtype)
    (tables, fine), (logs, _) = fast(sweep.marginals, rhm, evidence), fast(sweep.log_evidence, rhm, evidence)
    assert fine and all(table.dtype == dtype for table in tables)
    for i, one in enumerate(np.asarray(evidence, np.float64)):
        log_p, weights = enumeration.posterior(data, one)
        np.testing.assert_allclose(logs[i], log_p, rtol=tolerance, atol=tolerance)
        for got, want in zip(tables, enumeration.marginals(data, weights, rhm.vocabulary), strict=True):
            np.testing.assert_allclose(got[i], want, atol=tolerance)


FUNCTIONS = {
    "segments": (sweep.marginals, "binary", SEGMENTS),
    "segments, upward": (sweep.log_evidence, "binary", SEGMENTS),
    "segments, counts": (sweep.leaves_and_counts, "binary", SEGMENTS),
    "segments, entropy": (sweep.posterior_entropy, "short", SEGMENTS),
    "unequal sizes": (sweep.cavity_marginals, "ternary", SEGMENTS),
    "unequal sizes, counts": (sweep.leaves_and_counts, "ternary", SEGMENTS),
    "levels": (sweep.marginals, "short", LEVELS),
    "levels, cavity": (sweep.cavity_marginals, "ternary", LEVELS),
    "levels, counts": (sweep.leaves_and_counts, "ternary", LEVELS),
}


AGAIN = (  # slow: every cut and every function is in another case too
    "segments, upward", "segments, counts", "segments, entropy", "unequal sizes, counts", "levels",
    "levels, cavity",
)  # fmt: skip


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case in AGAIN else ()) for case in FUNCTIONS]
)
def test_cuts_and_padding_change_nothing(case):
    function, sizes, cutting = FUNCTIONS[case]
    rhm = grammar(sizes)
    evidence = mild_evidence(rhm, 6, np.float64)
    found, fine = fast(function, rhm, evidence, cutting)
    assert fine
    want = slow(getattr(logarithmic, function.__name__), rhm, evidence)
    for got, table in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(got, table, rtol=1e-12, atol=1e-12)


def test_a_tree_is_cut_for_the_device():
    rhm = grammar("binary")
    assert [(cut.top, cut.bottom) for cut in segments(rhm, 6, SEGMENTS)] == [(0, 3), (3, 6), (6, 7)]
    assert [(cut.top, cut.bottom) for cut in segments(rhm, 6, LEVELS)] == [(level, level + 1) for level in range(7)]


@pytest.mark.parametrize(
    "formulation", ["segments", *(pytest.param(name, marks=pytest.mark.slow) for name in ("levels", "logarithmic"))]
)
def test_a_formulation_can_be_named(formulation):
    """Also where it is not the fastest; the guard still hands over to logarithms."""
    rhm, given = grammar("short"), mild_evidence(grammar("short"), 6, np.float32)
    want = marginals(rhm, given.astype(np.float64))
    inside = jax.jit(lambda e: marginals(rhm, e, formulation=formulation))(given)
    for one, other, table in zip(marginals(rhm, given, formulation=formulation), inside, want, strict=True):
        np.testing.assert_allclose(one, table, atol=1e-5)
        np.testing.assert_allclose(other, table, atol=1e-5)
    sample = posterior_sample(jax.random.key(1), rhm, given, formulation=formulation)
    assert jnp.isfinite(log_evidence(rhm, hard_evidence(sample.leaves, 4))).all()


def test_a_formulation_that_is_unknown_or_does_not_serve_is_refused():
    rhm, filtered = grammar("short"), enumerated("filtered-1")[0]
    given = jnp.zeros((2, rhm.num_leaves, 4))
    with pytest.raises(ValueError, match="formulation = 'fast': give one of logarithmic, segments, levels"):
        marginals(rhm, given, formulation="fast")
    for grammar_, evidence in ((filtered, jnp.zeros((4, 3))), (rhm, {0: np.zeros((1, 4)), rhm.depth: given})):
        with pytest.raises(ValueError, match="formulation = 'levels' needs a grammar without a filter"):
            marginals(grammar_, evidence, formulation="levels")


@pytest.mark.parametrize(
    "process", [Masking(4), pytest.param(UniformNoise(4), marks=pytest.mark.slow)], ids=["masking", "uniform"]
)
def test_noised_strings_are_read_as_their_log_likelihoods_are(process):
    rhm, t = grammar("short"), jnp.linspace(0.2, 0.9, 6, dtype=jnp.float32)
    data = rhm.sample(jax.random.key(1), 6).x
    x_t = jax.jit(jax.vmap(process.corrupt))(jax.random.split(jax.random.key(2), 6), data, t)
    strings = NoisedStrings(process, x_t, t)
    (found, fine), (want, _) = (fast(sweep.marginals, rhm, evidence) for evidence in (strings, written_out(strings)))
    assert fine
    jax.tree.map(lambda got, table: np.testing.assert_allclose(got, table, atol=1e-6), found, want)
    for got, table in zip(marginals(rhm, strings), want, strict=True):  # a small batch: by logarithms
        np.testing.assert_allclose(got, table, atol=1e-5)


def test_fast_posterior_samples_follow_the_marginals():
    rhm = grammar("ternary")
    one, draws = mild_evidence(rhm, 6, np.float32)[3], 20_000
    repeated = jnp.broadcast_to(one[None], (draws, *one.shape))
    sample = posterior_sample(jax.random.key(2), rhm, repeated)
    assert suits(rhm, draws) and all(valid.all() for valid in sample.valid)
    parsed = jax.jit(jax.vmap(rhm.parse))(sample.leaves)
    for symbols, again in zip(sample.levels, parsed.levels, strict=True):
        np.testing.assert_array_equal(symbols, again)  # a tree of the grammar
    for symbols, want in zip(sample.levels, slow(logarithmic.marginals, rhm, one[None]), strict=True):
        law = np.asarray(want[0], np.float64)
        frequency = np.mean(np.asarray(symbols)[..., None] == np.arange(law.shape[1]), 0)
        error = np.sqrt(np.maximum(law * (1 - law), 0) / draws)
        assert (np.abs(frequency - law) <= 5 * error + 1e-6).all()


FLOORS = [-np.log(1e6), -np.log(1e12), -46.0, -87.0, -100.0, -200.0, -350.0, -500.0]


@pytest.mark.parametrize("chosen", [(0, 2, 4, 7), pytest.param((1, 3, 5, 6), marks=pytest.mark.slow)])
def test_no_error_is_silent(chosen):
    """250 data of each floor with 5% corrupted leaves; unobserved symbols have likelihoods from 1e-6 down to e^-500:
    float32 agrees with float64 to 1e-3, and for the confident ones this is because the guard rejects them."""
    rhm, batch = grammar("large"), 250
    assert suits(rhm, batch)
    draw = jax.jit(lambda rhm, keys: jax.vmap(rhm.sample)(keys).x)
    for seed in chosen:
        rng = np.random.default_rng(seed)
        leaves = np.asarray(draw(rhm, jax.random.split(jax.random.key(seed), batch)))
        leaves = np.where(rng.random(leaves.shape) < 0.05, rng.integers(0, 16, leaves.shape), leaves)
        evidence = np.where(np.eye(16, dtype=bool)[leaves], 0.0, FLOORS[seed])
        evidence[rng.random(leaves.shape) < 0.3] = 0.0
        want = slow(logarithmic.marginals, rhm, jnp.asarray(evidence))
        single = jnp.asarray(evidence, jnp.float32)
        for got, table in zip(marginals(rhm, single), want, strict=True):
            np.testing.assert_allclose(got, table, atol=1e-3)
        fine = fast(sweep.marginals, rhm, single)[1]
        assert fine if seed == 0 else seed == 1 or not fine


def test_what_the_guard_lets_pass_is_precise():
    """Evidence spread over up to 100 nats, datum by datum: what is called reliable agrees with float64 to 5e-6, and the
    guard is not merely cautious, for it lets most data pass."""
    rhm, rng, passed = RandomHierarchyModel(4, 2, 2, 3, key=jax.random.key(0)), np.random.default_rng(0), 0
    evidence = (-100 * rng.random((200, 8, 4)) ** rng.choice([0.3, 1, 3], size=(200, 1, 1))).astype(np.float32)
    want = jax.tree.map(np.asarray, slow(logarithmic.marginals, rhm, jnp.asarray(evidence, jnp.float64)))
    for i in range(len(evidence)):
        found, fine = fast(sweep.marginals, rhm, jnp.asarray(evidence[i : i + 1]))
        passed += bool(fine)
        for got, table in zip(found, want, strict=True):
            assert not fine or np.abs(np.asarray(got)[0] - table[i]).max() < 5e-6
    assert 100 < passed < 200


def test_impossible_evidence_and_nan_take_the_safe_path():
    rhm, batch = grammar("large"), 250
    data = np.array(rhm.sample(jax.random.key(0), batch).x)
    neighbours = np.tile(data[0], (16, 1))
    neighbours[:, 0] = np.arange(16)
    valid = np.asarray(jax.jit(jax.vmap(rhm.parse))(neighbours).valid[0])[:, 0]
    assert not valid.all()
    data[0] = neighbours[np.argmin(valid)]  # no string of the grammar
    evidence = np.where(np.eye(16, dtype=bool)[data], 0.0, -np.inf).astype(np.float32)
    assert log_evidence(rhm, evidence)[0] == -np.inf
    tables = [np.asarray(table) for table in marginals(rhm, evidence)]
    assert all((table[0] == 0).all() and (np.abs(table[1:].sum(-1) - 1) < 1e-5).all() for table in tables)
    for bad in (np.nan, np.inf):
        evidence[3, 2, 1] = bad
        with pytest.raises(ValueError, match="NaN or"):
            marginals(rhm, evidence)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_make_an_answer_unreliable_even_at_symbols_that_no_rule_uses(bad):
    symbols = jnp.arange(16)
    rules = [jnp.stack([symbols // 2, symbols], -1)[:, None]] * 2  # symbols 8 .. 15 are never a first child
    rhm = RandomHierarchyModel.from_rules(rules)
    evidence = jnp.zeros((64, 4, 16), jnp.float32).at[1, 2, 9].set(bad)
    for function in (sweep.log_evidence, sweep.marginals, sweep.cavity_marginals):
        assert not fast(function, rhm, evidence)[1]


def test_logarithms_are_used_where_the_sweep_does_not_apply():
    rhm = RandomHierarchyModel(8, 4, 2, 6, key=jax.random.key(0))
    assert suits(rhm, 2000) and not suits(rhm, 2000, jnp.bfloat16)
    assert not suits(RandomHierarchyModel(1500, 1000, 2, 1, key=jax.random.key(1)), 2000)  # (v + 1) v m > 2^31
    deep = [RandomHierarchyModel(1000, 17, 2, depth, key=jax.random.key(2), shared_rules=True) for depth in (8, 9)]
    assert [suits(rhm, 2000) for rhm in deep] == [True, False]  # lists downward, of 2 * 1000 * 1000 entries a level
    with pytest.raises(ValueError, match=r"the batch \(0,\) is empty"):
        marginals(rhm, jnp.zeros((0, 64, 8)))


@pytest.mark.parametrize("rows", [1, 4, 5, 8, 13])
def test_pieces_give_what_the_whole_gives(rows):
    seen = []

    def doubled(key, piece):
        seen.append(len(piece))
        return 2 * piece, jnp.full(len(piece), jax.random.uniform(key))

    numbers = jnp.arange(rows)
    twice, number_of_the_piece = in_pieces(doubled, 4, numbers, jax.random.key(0))
    np.testing.assert_array_equal(twice, 2 * numbers)
    assert max(seen) <= 4 and len(set(number_of_the_piece.tolist())) == -(-rows // 4)


@pytest.mark.slow
def test_large_batches_differentiate_and_compile_inside_other_programs(monkeypatch):
    """The gradient of ln p(y) is the leaf marginal; under jit the choice of path is part of the program."""
    small = dataclasses.replace(SEGMENTS, floats_of_a_piece=2**20)
    monkeypatch.setattr("theory.inference.fast.segments.SEGMENTS", small)
    rhm, batch = RandomHierarchyModel(16, 4, 2, 5, key=jax.random.key(3)), 1041
    assert suits(rhm, batch) and data_at_once(rhm) == 1040  # two pieces of 521, which share one datum
    evidence = mild_evidence(rhm, batch, np.float32)
    gradient = jax.jit(jax.grad(lambda e: log_evidence(rhm, e).sum()))(evidence)
    np.testing.assert_allclose(gradient, marginals(rhm, evidence)[-1], atol=2e-5)
    np.testing.assert_allclose(
        jax.jit(lambda e: log_evidence(rhm, e))(evidence), log_evidence(rhm, evidence), rtol=1e-6
    )
