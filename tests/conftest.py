"""Test-wide settings: float64 on, every implicit promotion and every reused key an error.

Most of the suite takes its time to compile, hundreds of small programs a file. So the optimiser is off, and of XLA's
two ways to emit fused loops the older one is taken, which compiles them in a third of the time; values stay as they
are. A file whose tests compute long, or are about speed, opts out of the first: `pytestmark = pytest.mark.optimised`.
"""

import gc
import importlib.metadata
import os
import pathlib

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/phasetree-tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # also of the programs that tests start

if importlib.metadata.version("jaxlib").startswith("0.10."):  # another XLA may not know these flags, and would abort
    flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()

import jax
import pytest

gc.set_threshold(50_000)  # tracing makes many small objects that live: looking through them took 7% of the time
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items):
    """Mark the tests that look at a small whole run of an experiment, which takes from ten seconds to half a minute."""
    for item in items:
        if "whole" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.whole)


@pytest.fixture(scope="module", autouse=True)
def optimised_where_marked(request):
    """Compile with the optimiser in a module that is marked so, in this process and in those that it starts."""
    if request.node.get_closest_marker("optimised") is None:
        yield
        return
    setting = "jax_disable_most_optimizations"
    before = jax.config.values[setting]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(setting.upper(), "0")
        jax.config.update(setting, False)
        yield
        jax.config.update(setting, before)


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Let go of compiled programs when they are many: each maps memory, and Linux gives a process 65,530 maps."""
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 6_000:
        jax.clear_caches()
