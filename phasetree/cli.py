"""The command line: `phasetree EXPERIMENT [options]`, `phasetree list`.

An experiment is a package in `phasetree.experiments`, see `phasetree.experiment`. Its options are the config's fields,
explained by their docstrings; the config's `label` names the folder. Only the chosen experiment is imported.
"""

import itertools
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Annotated, Any

EXPERIMENTS = {
    "transition": "the noise at which each level of a random hierarchy is lost: trained, exact, theory",
    "susceptibility": "which symbols change together, and how far apart: trained, exact, theory, controls",
    "text": "which tokens of a real text change together, and how far apart; a shuffled control",
    "images": "which patches of real images change together, and where the class is lost",
    "speciation": "when a diffusion decides between two Gaussian clusters: trained, exact, theory",
    "windows": "which level of a tree of clusters is decided when: trained, exact, theory",
    "collapse": "when the exact score of a finite training set falls onto its points: measured, exact, limit",
    "memorisation-time": "how long training takes to generalise and to memorise, against the number of points",
    "text-demo": "train on a real text, noise and regenerate passages, bits per character",
}

USAGE = """usage: phasetree EXPERIMENT [options]
       phasetree EXPERIMENT --help     every option, with its unit
       phasetree list                  the experiments

Every run writes one folder (--out, default results/EXPERIMENT-PRESET-seedN; a text file adds its name) with data,
figure, configuration and provenance. The same command again resumes a run that was interrupted, or prints a finished
one."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 done, 1 the run failed, 2 wrong usage, 130 interrupted)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "list"):
        print(USAGE if arguments[:1] != ["list"] else "\n".join(f"{k:14} {v}" for k, v in EXPERIMENTS.items()))
        return 0 if arguments else 2
    name, *options = arguments
    if name not in EXPERIMENTS:
        print(f"phasetree: no experiment {name!r}; there are: {', '.join(EXPERIMENTS)}", file=sys.stderr)
        return 2
    _prepare_jax()
    try:
        return _run(name, options)
    except KeyboardInterrupt:
        print("\nphasetree: interrupted; the same command again continues from the last checkpoint", file=sys.stderr)
        return 130


def _prepare_jax() -> None:
    """float64 for theory, and compiled programs kept between runs (PHASETREE_CACHE=off turns that off)."""
    import jax

    jax.config.update("jax_enable_x64", True)
    cache = os.environ.get("PHASETREE_CACHE", str(pathlib.Path.home() / ".cache" / "phasetree"))
    if cache != "off":
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _run(name: str, options: list[str]) -> int:
    import jax

    from diffusion import FolderError, NonFiniteLossError
    from phasetree.runner.choose import find_experiment
    from phasetree.runner.run import execute

    try:
        _, experiment = find_experiment(name)
        config, out = _parse(name, experiment.PRESETS, options)
        result = execute(name, experiment, config, out)
    except jax.errors.JaxRuntimeError as error:
        if "out of memory" not in str(error).lower():
            raise
        print(f"phasetree {name}: {str(error).splitlines()[0]}: ask for a smaller problem", file=sys.stderr)
        return 1
    except (FolderError, NonFiniteLossError, ValueError, OSError, ImportError) as error:
        print(f"phasetree {name}: {error}", file=sys.stderr)
        return 1
    _show(result.report.markdown().removesuffix("\n"))
    print(f"\nwritten to {result.folder}/: data.nc, findings.json, figure.png, figure.pdf, report.md, config.json")
    return 0


def _parse(name: str, presets: Mapping[str, Any], options: list[str]):
    """The config of the chosen preset with the given options on top, and the output folder."""
    import tyro

    chosen = _option("--preset", options) or "default"
    if chosen not in presets:
        raise ValueError(f"--preset {chosen}: choose one of {', '.join(presets)}")
    preset = presets[chosen]

    out_help = (
        "Folder of the run, default results/EXPERIMENT-PRESET-seedN (a text file adds its name). If it holds this "
        "run, the run continues."
    )
    out_type = Annotated[pathlib.Path | None, tyro.conf.arg(help=out_help, metavar="PATH")]

    def command(config, out=None):
        return config, out

    command.__annotations__ = {"config": type(preset), "out": out_type}
    command.__defaults__ = (preset, None)

    return tyro.cli(
        command,
        args=options,
        prog=f"phasetree {name}",
        description=type(preset).__doc__,
        config=(tyro.conf.OmitArgPrefixes,),
    )


def _option(flag: str, options: list[str]) -> str | None:
    for word, following in itertools.pairwise([*options, None]):
        if word == flag:
            return following
        if word and word.startswith(flag + "="):
            return word.split("=", 1)[1]
    return None


def _show(report: str) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(report))


if __name__ == "__main__":
    sys.exit(main())
