"""The findings of the experiment `memorisation`.

flux/PLACE                            predicted: the inward 1-Laplace of three modes, by quadrature
flux/DENOISER/PLACE                   measured; flux-difference/DENOISER/PLACE is that minus the prediction
share-auc/DETECTOR/SHARE/NOISE        measured: AUC on scores that are in part the training set's, mean over repeats
auc/GROUP/DETECTOR/NOISE              measured: images of a group (members, planted) against images not seen
found/GROUP/DETECTOR/NOISE            measured: the fraction of the group found at 1% of false positives
best/GROUP                            measured: AUC of the detector and noise with the largest
"""

import jax.numpy as jnp
import numpy as np
import xarray as xr

from diffusion.measure import Estimate, mean_estimate
from phasetree.experiment import Finding, Findings
from phasetree.experiments.memorisation.stages import PLACES, predicted_flux
from phasetree.findings import path


def analyse(dataset: xr.Dataset) -> Findings:
    """Modes, shares, images."""
    return Findings([*_fluxes(dataset), *_shares(dataset), *_images(dataset)])


def _fluxes(dataset: xr.Dataset) -> list[Finding]:
    predicted = {name: predicted_flux(np.array(place)) for name, place in PLACES.items()}
    found = [Finding.exact(path("flux", name), value, "predicted", "1") for name, value in predicted.items()]
    for kind in dataset.denoiser.values.tolist():
        for name, value in predicted.items():
            part = dataset.sel(denoiser=kind, place=name)
            flux = _estimate(part.flux, part.flux_stderr)
            difference = Estimate(flux.value - value, flux.stderr)
            found.append(Finding(path("flux", kind, name), flux, "measured", "1"))
            found.append(Finding(path("flux-difference", kind, name), difference, "difference", "1"))
    return found


def _shares(dataset: xr.Dataset) -> list[Finding]:
    found = []
    for detector in _detectors(dataset.share_auc):
        for share in dataset.share.values.tolist():
            for noise in dataset.share_noise.values.tolist():
                rows = dataset.share_auc.sel(detector=detector, share=share, share_noise=noise).values
                found.append(Finding(path("share-auc", detector, share, noise), mean_estimate(rows), "measured", "1"))
    return found


def _images(dataset: xr.Dataset) -> list[Finding]:
    found, detectors = [], _detectors(dataset.auc)
    for group in dataset.group.values.tolist():
        for detector in detectors:
            for noise in dataset.noise.values.tolist():
                part = dataset.sel(group=group, detector=detector, noise=noise)
                auc, rate = _estimate(part.auc, part.auc_stderr), _estimate(part.found, part.found_stderr)
                found.append(Finding(path("auc", group, detector, noise), auc, "measured", "1"))
                found.append(Finding(path("found", group, detector, noise), rate, "measured", "1"))
        detector, noise = best(dataset, group)
        part = dataset.sel(group=group, detector=detector, noise=noise)
        largest = _estimate(part.auc, part.auc_stderr)
        note = f"{detector} at noise {noise:g}, the largest of {len(detectors) * dataset.sizes['noise']}"
        found.append(Finding(path("best", group), largest, "measured", "1", note))
    return found


def best(dataset: xr.Dataset, group: str) -> tuple[str, float]:
    """The detector and the noise of largest AUC for a group of images."""
    table = dataset.auc.sel(group=group).transpose("detector", "noise")
    row, column = np.unravel_index(int(np.nanargmax(table.values)), table.shape)
    return str(dataset.detector.values[row]), float(dataset.noise.values[column])


def _detectors(table: xr.DataArray) -> list[str]:
    return table.detector.values.tolist()


def _estimate(value: xr.DataArray, error: xr.DataArray) -> Estimate:
    return Estimate(jnp.asarray(float(value), float), jnp.asarray(float(error), float))
