"""The workbench: experiments, results and the command line."""
