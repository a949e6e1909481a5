"""The command line: `phasetree EXPERIMENT [options]`; without an experiment it lists them.

An experiment is a module as `phasetree.experiment` describes it. Its options are the fields of its config, explained by
their docstrings. Only the chosen experiment is imported. What surrounds a run is in `phasetree.command`.
"""

import dataclasses
import importlib.metadata
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from phasetree.command.experiments import search_current_folder, summaries
from phasetree.command.interrupt import ending_on_interrupt
from phasetree.command.terminal import any_encoding, close_quietly, complain, printable, show

if TYPE_CHECKING:
    from phasetree.command.options import Options
    from phasetree.experiment import Experiment

CLOSED = 141  # the status of a program that writes to a closed pipe, by convention

USAGE = """usage: phasetree EXPERIMENT [options]
       phasetree EXPERIMENT --help     its presets, and every option with its unit
       phasetree sample FOLDER         new data from the network of a run, as a file; --help explains
       phasetree --version

experiments:
{experiments}

EXPERIMENT may also be the dotted name of a module of one's own. Every run writes one folder (--out, default
results/EXPERIMENT-PRESET-seedN; a text file or a set of images adds its name) with data, figure, configuration and
provenance. The same command again resumes a run that was interrupted, or prints a finished one. --debug shows the
traceback of an error. Compiled programs are kept in ~/.cache/phasetree; PHASETREE_CACHE names another
folder, or is "off"."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
      The exit status: 0 done, 1 the run failed, 2 the input cannot be used, 70 a bug of phasetree, 130 interrupted, 141
      the reader of the output has gone.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with any_encoding():
        try:
            with ending_on_interrupt():
                status = _command(words)
            sys.stdout.flush()
            if arguments is None:  # a program that has done its work: there is nothing to interrupt in its end
                signal.signal(signal.SIGINT, signal.SIG_IGN)
        except BrokenPipeError:
            close_quietly()
            return CLOSED
        except SystemExit as end:  # of --help, or interrupted
            return int(end.code or 0)
    return status


def _command(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(USAGE.format(experiments="\n".join(f"  {name:18} {line}" for name, line in summaries().items())))
        return 0 if words else 2
    if words[0] == "--version":
        print(f"phasetree {importlib.metadata.version('phasetree')}")
        return 0
    for word in words:
        if printable(word) != word or "\n" in word:
            complain(f"phasetree: {printable(word)!r} holds control characters: type it without them")
            return 2
    return _explained(*words)


def _explained(name: str, *options: str) -> int:
    """Do what the command says, with every failure reported in one line, or with its traceback after --debug."""
    from phasetree.command.failures import explain
    from phasetree.command.options import first_options, read_options
    from phasetree.command.settings import settings_of_a_run

    config, debug = None, False
    try:
        first = first_options(options)
        debug = first.debug
        with settings_of_a_run():
            if name == "sample":
                from phasetree.command.sample import sample

                show(*sample(options))
                return 0
            from phasetree.runner.choose import find_experiment  # here, for it imports matplotlib

            search_current_folder()
            experiment = find_experiment(name)
            chosen = read_options(f"phasetree {name}", experiment[1].PRESETS, first.preset, options)
            config = chosen.config
            _run(experiment, chosen)
    except BrokenPipeError:
        raise
    except Exception as error:  # of any type: `explain` decides what it is, --debug raises it
        if debug:
            raise
        status, sentence = explain(error, [name, *options], config)
        complain(f"phasetree {name}: {' '.join(sentence.split())}")
        return status
    return 0


def _run(experiment: "tuple[str, Experiment]", chosen: "Options") -> None:
    """One run, or the average of several seeds."""
    config = chosen.config
    if chosen.seeds > 1:
        from phasetree.sweep import execute_seeds

        configs = [dataclasses.replace(config, seed=config.seed + n) for n in range(chosen.seeds)]
        sweep = execute_seeds(*experiment, configs, chosen.out)
        show(sweep.report.markdown(), f"written to {sweep.folder}/: findings.json, report.md; each run beside it")
        return
    from phasetree.runner.run import execute

    result = execute(*experiment, config, chosen.out, chosen.start)
    files = "data.nc, findings.json, figure.png, figure.pdf, report.md, config.json, provenance.json"
    show(result.report.markdown(), f"written to {result.folder}/: {files}")


if __name__ == "__main__":
    sys.exit(main())
