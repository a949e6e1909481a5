"""An experiment run to its end, as the command line does it."""

from phasetree.results import ResultFolder
from phasetree.runner.run import execute


def finish(name, experiment, config, path):
    """Run, draw, report and write; the dataset."""
    if hasattr(experiment, "plan"):
        return execute(name, experiment, config, path).dataset
    folder = ResultFolder(path, name, config)
    dataset = experiment.run(config, folder)
    folder.finish(dataset, experiment.plot(dataset), experiment.report(dataset))
    return dataset
