"""Residual mutual information: what the forgotten prompt still tells the model about the image."""

from __future__ import annotations

import torch

from metrics.base import Evidence, Metric, MissingEvidence, Score, require_counts


def compute(evidence: Evidence) -> Score:
    """Mean over the forgotten concepts' images of 1/2 integral ||eps(x_l, c) - eps(x_l, null)||^2 dl, in nats.

    l is the log-SNR, x_l the image's final latents under noise of that level, eps the model's own prediction for its
    prompt c and for the null prompt: with |dl/dt| as weight, a sum over timesteps; here the trapezoid rule over the
    log-SNRs of the probe. For images drawn from p(x|c) it is KL(p(x|c) || p(x|null)), and its mean over prompts is
    the mutual information of prompt and image if the null prompt stands for the marginal (Kong et al., 2024).

    0 to infinity, less is better, 0 where the prompt changes nothing: what a method that aligns both predictions aims
    at. A ruined model reaches it too, so read it with retention; a method that relabels the concept rightly keeps it
    high, since the prompt still says something, only something else. Two approximations: the images are drawn with
    guidance and so sharper than p(x|c), and the integral ends where the backbone's noise schedule does. Raises
    MissingEvidence.
    """
    probe = evidence.probe
    if probe is None:
        raise MissingEvidence("the model itself was not probed")
    require_counts(probe.requested, list(probe.gaps), evidence.forget, evidence.counts)
    wanted = [concept in evidence.forget for concept in probe.requested]
    order = probe.logsnr.argsort()
    nats = torch.trapezoid(probe.gaps[wanted][:, order], probe.logsnr[order], dim=1) / 2
    return Score(float(nats.mean()), len(nats))


MI = Metric(
    name="mi",
    about="residual mutual information of forgotten prompt and image, by the model's own predictions",
    unit="nats",
    higher_is_better=False,
    low=0.0,
    high=float("inf"),
    source="Kong et al., ICLR 2024 (arXiv 2310.07972), orthogonal estimator",
    compute=compute,
    needs=("probe",),
)
