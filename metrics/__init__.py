"""The metrics by name. Other packages add metrics through the entry-point group `lethe.metrics`."""

from bench.core.registry import Registry
from metrics.base import Evidence, Metric, MissingEvidence, Score
from metrics.column import Column
from metrics.cost import COSTS
from metrics.probes import CaptionImages, HeadNouns, Probe, PromptProbes

OF_CAPTIONS = ("caption_clip", "caption_fid")  # only worlds with captions have them, so "all" does not name them
METRICS: Registry[Metric] = Registry(
    "metric",
    {
        "ua": "metrics.ua:UA",
        "nra": "metrics.nra:NRA",
        "ora": "metrics.ora:ORA",
        "twin": "metrics.twin:TWIN",
        "headnoun": "metrics.headnoun:HEADNOUN",
        "uc_ua": "metrics.unlearncanvas:UC_UA",
        "uc_ira": "metrics.unlearncanvas:UC_IRA",
        "uc_cra": "metrics.unlearncanvas:UC_CRA",
        "fid": "metrics.fid:FID",
        "kid": "metrics.kid:KID",
        "clip": "metrics.clip:CLIP",
        "drift": "metrics.drift:DRIFT",
        "drift_latent": "metrics.drift:DRIFT_LATENT",
        "plausible": "metrics.plausible:PLAUSIBLE",
        "plausible_domain": "metrics.plausible:PLAUSIBLE_DOMAIN",
        "mi": "metrics.mi:MI",
        "pid_unique": "metrics.pid:UNIQUE",
        "pid_redundant": "metrics.pid:REDUNDANT",
        "pid_synergy": "metrics.pid:SYNERGY",
        "pid_shared": "metrics.pid:SHARED",
        "caption_clip": "metrics.captions:CAPTION_CLIP",
        "caption_fid": "metrics.captions:CAPTION_FID",
    },
    group="lethe.metrics",
    unlisted=OF_CAPTIONS,
)

__all__ = [
    "COSTS",
    "METRICS",
    "OF_CAPTIONS",
    "CaptionImages",
    "Column",
    "Evidence",
    "HeadNouns",
    "Metric",
    "MissingEvidence",
    "Probe",
    "PromptProbes",
    "Score",
]
