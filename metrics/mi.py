"""Residual mutual information of the forgotten prompt and its image, under the unlearned model."""

from __future__ import annotations

import torch

from metrics.base import Evidence, Metric, MissingEvidence, Score, require_counts


def compute(evidence: Evidence) -> Score:
    """Mean over the forgotten concepts' images of 1/2 integral ||eps(x_l, c) - eps(x_l, null)||^2 dl, in nats.

    l is the log-SNR. x_l are the image's final latents with noise of that level. eps is the model's prediction for the
    image's prompt c and for the null prompt. The trapezoid rule over the log-SNRs of the probe computes the integral.
    For images drawn from p(x|c) the integral is KL(p(x|c) || p(x|null)). Its mean over prompts is the mutual
    information of prompt and image if the null prompt stands for the marginal (Kong et al., 2024).

    The value is 0 to infinity, less is better. It is 0 if the prompt does not change the prediction. Read it together
    with the retention metrics, because a ruined model has a low value too. A method that maps the concept to another
    concept keeps a high value, because the prompt still determines the image. There are two approximations: images are
    drawn with guidance, so they are sharper than p(x|c), and the integral ends at the ends of the backbone's noise
    schedule. Raises MissingEvidence.
    """
    probe = evidence.probe
    if probe is None:
        raise MissingEvidence("evidence.probe is missing: the model was not probed")
    require_counts(probe.requested, list(probe.gaps), evidence.forget, evidence.counts)
    forgotten = [concept in evidence.forget for concept in probe.requested]
    order = probe.logsnr.argsort()
    nats = torch.trapezoid(probe.gaps[forgotten][:, order], probe.logsnr[order], dim=1) / 2
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
