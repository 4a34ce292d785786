"""The metrics by name. Other packages add metrics through the entry-point group `lethe.metrics`."""

from bench.core.registry import Registry
from metrics.base import Evidence, Metric, MissingEvidence, Score
from metrics.column import Column
from metrics.cost import COSTS
from metrics.probes import HeadNouns, Probe, PromptProbes

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
    },
    group="lethe.metrics",
)

__all__ = [
    "COSTS",
    "METRICS",
    "Column",
    "Evidence",
    "HeadNouns",
    "Metric",
    "MissingEvidence",
    "Probe",
    "PromptProbes",
    "Score",
]
