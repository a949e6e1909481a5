"""The command line on an experiment of one's own: what it prints, returns and leaves, also when something fails."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

import phasetree
from diffusion import FolderError, NonFiniteLossError
from diffusion.folders.stored import WriteError
from hierarchical.files.memory import available_memory
from phasetree.cli import main
from phasetree.command.experiments import summaries
from phasetree.command.interrupt import MESSAGE
from phasetree.command.options import read_options
from phasetree.command.terminal import printable
from phasetree.experiments import checks
from phasetree.runner.choose import configure, experiment_names, find_experiment
from tests.phasetree import own_experiment as own

OWN = own.__name__


def lines(text):
    return text.strip().splitlines()


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_without_an_experiment_it_lists_them(capsys, words):
    assert main(words) == (0 if words else 2)
    printed = capsys.readouterr().out
    for name, summary in summaries().items():
        assert f"  {name:18} {summary}\n" in printed and summary
    assert set(summaries()) == set(experiment_names())


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.split()[1][0].isdigit()


def test_help_shows_presets_with_their_sizes_first(capsys):
    assert main(["speciation", "--help"]) == 0
    printed = capsys.readouterr().out
    presets = printed.index("paper          dimensions 64 256 1024 4096, ")
    assert presets < printed.index("--preset {quick,default,paper}") < printed.index("--out PATH")
    assert printed.index("--preset {") < min(printed.index(f"--{option} ") for option in ("seed", "std", "steps"))


def test_a_run_prints_its_report_and_is_what_python_runs(capsys, tmp_path):
    assert main([OWN, "--preset", "many", "--seed=3", "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    _, findings = phasetree.open_result(tmp_path / "run")
    assert findings == phasetree.run(own, preset="many", seed=3, out=False).findings
    assert f"Heads: {findings['heads'].value:.3f} of 2." in printed and "findings.json" in lines(printed)[-1]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["num_data"] == 1000


def test_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main([OWN, "--out=~/runs"]) == 0
    assert (tmp_path / "runs" / "data.nc").exists() and not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["transitions"], "no experiment 'transitions'; there are: collapse"),
        (["no.such.module"], "no module 'no.such.module'"),
        ([".module"], "no experiment '.module'"),
        (["os.path"], "posixpath is no experiment: it has no Config"),
        ([OWN, "--preset", "huge"], "--preset huge: choose one of default, many"),
        ([OWN, "--preset"], "Missing value for argument '--preset'"),
        ([OWN, "--sed", "3"], "Unrecognized options: --sed, 3 (perhaps --seed INT or --seeds INT)"),
        ([OWN, "--num-data", "many"], "--num-data: invalid literal for int()"),
        ([OWN, "--num-data", "1"], f"phasetree {OWN}: num_data = 1: must be at least 2"),
        ([OWN, "--out", "~nobody-of-this-name/run"], "there is no such user"),
        ([OWN, "--out", "\x1b[31mred\x07"], "'\\\\x1b[31mred\\\\x07' holds control characters"),
        (["transition", "--learning-rate", "-1"], "phasetree transition: learning_rate = -1.0: must be positive"),
        (["transition", "--depth", "60"], "depth = 60, branching = 2: the beliefs of one string need 3.69e+10 GB"),
        (["transition", "--depth", str(10**9)], "lower num_symbols, num_synonyms or depth"),
        (["transition", "-v", str(10**9)], "num_synonyms = 3, depth = 4: the rules of all levels need 144 GB"),
        (["transition", "-v", str(10**20)], "num_symbols = 100000000000000000000: must be below 2^63"),
        (["transition", "--steps", str(10**20)], "steps = 100000000000000000000: must be below 2^63"),
        (["transition", "-n", str(10**12)], "training_set = 1000000000000, depth = 4, branching = 2: 1000000000000"),
        (["transition", "--depths", "2", "1000"], "depths = 1000, branching = 2: the beliefs of one string need more"),
        (["transition", "--depths", "2", "26"], "depths = 26, branching = 2: 64 strings do not fit"),
        (["transition", "--num-grammars", str(10**8)], "num_data = 2048: as many numbers need"),
        (["transition", "--close-times", str(10**9)], "are free: lower close_times"),
        (["transition", "--ensemble", str(10**13)], "ensemble = 10000000000000 x num_times = 17: as many numbers need"),
        (["transition", "--batch-size", str(10**10)], "batch_size = 10000000000, width = 64, branching = 2, depth = 4"),
        (
            ["transition", "-s", "1000", "-L", "1"],
            "branching = 1000, depth = 1: the network's weights in training need",
        ),
        (["windows", "--steps", str(10**12)], "steps = 1000000000000: as many numbers need 4e+03 GB"),
        (["memorisation-time", "--steps-per-point", str(10**12)], "the losses of all steps need"),
        (["symmetry", "--num-latents", str(10**12)], "num_latents = 1000000000000 x width = 128: as many numbers"),
        (["text-demo", "--tokens-per-step", str(10**12)], "tokens_per_step = 1000000000000: as many numbers need"),
        (["images", "--patch", str(10**8)], "patch = 100000000, square = 2, levels = 2: the pixels of an image need"),
        (
            ["recovery", "--num-grammars", str(10**11)],
            "num_grammars = 100000000000 x 7 statistics x 10 samples: as many",
        ),
        (["collapse", "--sampler-steps", str(10**12)], "sampler_steps = 1000000000000: as many numbers need"),
        (["speciation", "--num-trajectories", str(10**12)], "num_trajectories = 1000000000000: the trajectories need"),
        (["windows", "--dimension", str(10**9)], "dimension = 1000000000, 8 clusters"),
        (["memorisation-time", "--width", str(10**6)], "width = 1000000: the network's weights in training need"),
        (["transition", "--rules", "nowhere.json"], "no file 'nowhere.json': give a .json or .npz file of rule tables"),
        (["susceptibility", "--rules", __file__], "is neither .json nor .npz: rename it"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(capsys, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checks, "available_memory", lambda: 2**35)  # whatever this machine has
    assert main(words) == 2
    shown = capsys.readouterr()
    assert message in shown.err and len(lines(shown.err)) == 1 and not shown.out
    assert not list(tmp_path.iterdir())


def of_numpy(dataset):
    np.zeros(2).reshape(3)


def raising(error):
    def analyse(dataset):
        raise error

    return analyse


@pytest.mark.parametrize(
    ("analyse", "status", "message"),
    [
        (raising(FolderError("it is another run's")), 1, "it is another run's"),
        (raising(NonFiniteLossError("lower the rate")), 1, "lower the rate"),
        (raising(MemoryError()), 1, "out of memory: lower --num-data"),
        (raising(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")), 1, "lower --num-data"),
        (raising(OSError(28, "No space left on device")), 1, "the same command continues"),
        (raising(WriteError(28, "it is full", "a/20")), 1, "cannot write a/20: it is full; finished work is kept"),
        (raising(FloatingPointError("invalid value (nan)")), 1, "unset it to run"),
        (of_numpy, 1, "the experiment raised ValueError: cannot reshape array of size 2 into shape (3,)"),
    ],
)
def test_failures_of_a_run_are_one_line(capsys, monkeypatch, tmp_path, analyse, status, message):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where tracebacks are kept
    monkeypatch.setattr(own, "analyse", analyse)
    assert main([OWN, "--out", str(tmp_path / "run")]) == status
    shown = capsys.readouterr().err
    assert message in shown and len([line for line in lines(shown) if "phasetree" in line]) == 1


def test_a_bug_is_called_one_and_its_traceback_is_kept(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(own, "SUMMARY", own.SUMMARY)
    monkeypatch.setattr("phasetree.runner.run.execute", of_numpy_called)
    assert main(["speciation", "--out", str(tmp_path / "run")]) == 70
    shown = capsys.readouterr().err
    [file] = tmp_path.glob("phasetree-bug-*.txt")
    assert len(lines(shown)) == 1 and "This is a bug of phasetree" in shown and str(file) in shown
    kept = file.read_text()
    assert "of_numpy_called" in kept and "phasetree speciation --out" in kept and f"jax {jax.__version__}" in kept


def of_numpy_called(*arguments):
    np.zeros(2).reshape(3)


def test_debug_shows_the_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr(own, "analyse", raising(FolderError("this")))
    with pytest.raises(FolderError, match="this"):
        main([OWN, "--debug", "--out", str(tmp_path / "run")])


def test_settings_are_as_before(capsys, monkeypatch, tmp_path):
    """matplotlib would refuse that backend, JAX those programs; JAX computes in float32 before and after."""
    monkeypatch.setenv("MPLBACKEND", "no-such-backend")
    before = dict(jax.config.values)
    with jax.enable_x64(False):
        assert main([OWN, "--out", str(tmp_path / "run")]) == 0
        assert jax.numpy.zeros(()).dtype == "float32"
    assert dict(jax.config.values) == before and os.environ["MPLBACKEND"] == "no-such-backend"


def child(source, **environment):
    """The result of a Python program of its own; Ctrl-C reaches it also where a shell runs the tests in the background.

    Such a shell has SIGINT ignored, which processes inherit.
    """
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [sys.executable, "-c", heard + textwrap.dedent(source)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300)


def test_a_device_that_is_not_there_is_named():
    done = child(f"from phasetree.cli import main; raise SystemExit(main(['{OWN}']))", JAX_PLATFORMS="no-such-device")
    assert done.returncode == 2 and len(lines(done.stderr)) == 1
    assert "JAX_PLATFORMS=no-such-device: JAX cannot use it" in done.stderr


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("JAX_ENABLE_X64", "unset JAX_ENABLE_X64, or set it to 0 or 1"),
        ("EQX_ON_ERROR", "unset EQX_ON_ERROR"),
        *[
            pytest.param(name, f"unset {name}", marks=pytest.mark.slow)
            for name in (
                "JAX_DEFAULT_MATMUL_PRECISION",
                "JAX_DEFAULT_DEVICE",
                "JAX_COMPILER_DETAILED_LOGGING_MIN_OPS",
            )
        ],
    ],
)
def test_a_variable_that_jax_does_not_take_is_named(name, advice):
    done = child("from phasetree.cli import main; raise SystemExit(main(['transition']))", **{name: "maybe"})
    assert done.returncode == 2 and len(lines(done.stderr)) == 1
    assert f"phasetree transition: {name}=maybe cannot be used (" in done.stderr and f": {advice}" in done.stderr


def test_python_runs_the_package():
    done = subprocess.run([sys.executable, "-m", "phasetree", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("phasetree ") and not done.stderr
    done = subprocess.run([sys.executable, "-m", "phasetree"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout.startswith("usage: phasetree EXPERIMENT")


def test_any_terminal_and_any_backend_of_figures_show_help_whose_end_is_quiet():
    program = f"from phasetree.cli import main; raise SystemExit(main(['{OWN}', '--help']))"
    done = child(program, PYTHONIOENCODING="ascii", MPLBACKEND="no-such-backend")
    assert done.returncode == 0 and "--preset" in done.stdout and not done.stderr
    shell = f'{sys.executable} -c "{program}" 2>&1 | head -c 1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=300)
    assert done.stdout == "u" and not done.stderr and done.returncode in (0, 141)


MOMENTS = {
    "in Python": "os.kill(os.getpid(), signal.SIGINT); time.sleep(1000)",
    "in a callback": """jax.block_until_ready(jax.jit(lambda x: jax.pure_callback(
        lambda y: (os.kill(os.getpid(), signal.SIGINT), time.sleep(1000)), x, x))(jax.numpy.zeros(())))""",
    "in a compiled call": """threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        jax.block_until_ready(jax.jit(lambda x: jax.lax.while_loop(lambda y: y < 1, lambda y: y / 2, x))(0.5))""",
    "where it is swallowed": """try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            time.sleep(1000)""",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupt_ends_the_process_with_one_line_wherever_it_comes(moment):
    source = f"""
    import os, signal, threading, time
    import jax
    from phasetree.command.interrupt import ending_on_interrupt
    with ending_on_interrupt():
        {MOMENTS[moment]}
    """
    done = child(source)
    assert (done.returncode, done.stderr) == (130, MESSAGE)


def test_an_interrupted_run_continues(tmp_path):
    interrupted = f"""
    import os, signal
    from phasetree.cli import main
    from tests.phasetree import own_experiment as own
    def collect(config, results):
        os.kill(os.getpid(), signal.SIGINT)
    own.collect = collect
    raise SystemExit(main([own.__name__, "--out", {str(tmp_path / "run")!r}]))
    """
    done = child(interrupted)
    assert done.returncode == 130 and MESSAGE.strip() in done.stderr and "Traceback" not in done.stderr
    own.CALLS.clear()
    assert main([OWN, "--out", str(tmp_path / "run")]) == 0
    assert not own.CALLS, "finished stages were computed again"


def test_what_steers_a_terminal_is_shown_as_escapes():
    assert printable("a\x1b[2J\x07\x9b\u202eb\udc80\r") == "a\\x1b[2J\\x07\\x9b\\u202eb\\udc80\\r"
    assert printable("Käfer, 甲虫\n\tβ 🪲") == "Käfer, 甲虫\n\tβ 🪲"


def test_sizes_are_compared_with_the_memory_of_the_process():
    checks.check_memory(available_memory() / 8, "half of the memory", "nothing")
    with pytest.raises(ValueError, match=r"a = 3: numbers need .* GB, .* GB are free: lower a"):
        checks.check_memory(float(available_memory()), "a = 3: numbers", "a")
    with pytest.raises(ValueError, match="need more memory than any machine has"):
        checks.check_memory(math.inf, "numbers", "a")


@pytest.mark.parametrize("name", [name for name in experiment_names() if name not in ("collapse", "recovery")])
def test_whatever_trains_compares_its_network_with_the_memory(monkeypatch, name):
    monkeypatch.setattr(checks, "available_memory", lambda: 2**35)
    dense = {"dense": True} if name == "level-collapse" else {}
    with pytest.raises(
        ValueError, match=r"^width = 1000000000.*: the network's weights in training need .*: lower width"
    ):
        configured(name, width=10**9, **dense)


@pytest.mark.parametrize("name", experiment_names())
def test_no_preset_is_refused_on_a_small_machine(monkeypatch, name):
    monkeypatch.setattr(checks, "available_memory", lambda: 2**33)
    for preset in find_experiment(name)[1].PRESETS.values():
        dataclasses.replace(preset)


def test_a_preset_that_is_too_large_for_this_machine_leaves_the_others_usable(monkeypatch):
    """Presets are compared with memory where they are chosen, with their options."""
    presets = find_experiment("speciation")[1].PRESETS
    monkeypatch.setattr(checks, "available_memory", lambda: 2**30)
    with checks.for_any_machine():
        dataclasses.replace(presets["paper"])
    with pytest.raises(ValueError, match=r"the trajectories need .* GB, 1\.07 GB are free: lower dimensions or"):
        read_options("phasetree speciation", presets, "paper", [])
    smaller = ["--dimensions", "64", "--trained", "64", "--num-trajectories", "1024", "--width", "64"]
    assert read_options("phasetree speciation", presets, "paper", smaller).config.width == 64
    assert read_options("phasetree speciation", presets, "quick", []).config == presets["quick"]


def test_rules_of_many_children_need_no_table_of_tuples():
    checks.check_grammar(configured("transition", num_symbols=8, num_synonyms=2, branching=12, depth=1))


@pytest.mark.parametrize(("name", "option", "one"), [("text-demo", "noise_levels", 0.5), ("collapse", "times", 1.0)])
def test_levels_that_have_one_name_are_refused(name, option, one):
    with pytest.raises(ValueError, match=f"{option} = .*differ in six digits"):
        configured(name, **{option: (one - 1e-7, one, one + 1e-7)})


def configured(name, **options):
    return configure(find_experiment(name)[1], "default", options)
