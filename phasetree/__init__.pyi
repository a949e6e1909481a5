"""The workbench: experiments, results and the command line. `phasetree.run("transition", preset="quick")` runs one."""

from .experiment import Experiment as Experiment
from .experiment import Finding as Finding
from .experiment import Findings as Findings
from .experiment import Inputs as Inputs
from .experiment import Report as Report
from .experiment import Stage as Stage
from .experiment import Table as Table
from .experiment import Training as Training
from .experiment import curve_findings as curve_findings
from .results import Result as Result
from .results import network_names as network_names
from .results import open_network as open_network
from .results import open_result as open_result
from .runner.run import run as run
from .sweep import Sweep as Sweep
from .sweep import average as average
from .sweep import run_seeds as run_seeds
