"""The suite beside plugins that are no part of it, as an interpreter with other packages holds them.

Such plugins warn, reorder tests and reseed the generators of Python and NumPy. The stand-in does all of that as
pytest-benchmark, pytest-cov, pytest-asyncio and pytest-randomly do; `.ci/run` runs beside these four themselves.
"""

import os
import pathlib
import subprocess
import sys
import warnings

import pytest

ROOT = pathlib.Path(__file__).parents[1]

PLUGIN = '''
import random, warnings
import numpy as np
import pytest

class LoudWarning(UserWarning):
    """As pytest-benchmark gives under pytest-xdist."""

def pytest_configure(config):
    warnings.warn("while configuring", LoudWarning)
    config.issue_config_time_warning(LoudWarning("of the configuration"), stacklevel=2)

def pytest_sessionstart(session):
    warnings.warn("at the start", DeprecationWarning)

def pytest_collection_modifyitems(items):
    warnings.warn("while collecting", LoudWarning)
    items.reverse()

def pytest_runtest_setup(item):
    random.seed(1)
    np.random.seed(1)
    warnings.warn("before a test", ResourceWarning)

def pytest_terminal_summary(terminalreporter):
    warnings.warn("at the end", LoudWarning)
'''


def test_warnings_of_other_plugins_are_no_errors(tmp_path):
    (tmp_path / "loud_plugin.py").write_text(PLUGIN)
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "loud_plugin", "-n", "2"]
    done = subprocess.run(
        [*command, "tests/test_foreign_plugins.py::test_warnings_of_our_code_and_of_its_libraries_are_errors"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "LoudWarning" in done.stdout and "4 passed" in done.stdout


@pytest.mark.parametrize("module", ["hierarchical.mixture.gaussian", "diffusion", "jax._src.core", "tests.test_x"])
def test_warnings_of_our_code_and_of_its_libraries_are_errors(module):
    with pytest.raises(UserWarning, match="ours"):
        warnings.warn_explicit("ours", UserWarning, "file.py", 1, module)
