"""An experiment run to its end, as the command line does it."""

from phasetree.results import ResultFolder


def finish(name, experiment, config, path):
    """Run, draw, report and write; the dataset."""
    folder = ResultFolder(path, name, config)
    dataset = experiment.run(config, folder)
    folder.finish(dataset, experiment.plot(dataset), experiment.report(dataset))
    return dataset
