"""Unlearning methods by name. Other packages add theirs through the entry-point group `lethe.methods`."""

from bench.core.registry import Registry
from methods.base import Method

ORACLE = "oracle"  # a control, on the boards whose world has its weights
METHODS: Registry[type[Method]] = Registry(
    "method",
    {
        "mimmu": "methods.mimmu:MimMu",
        "mimmu-sds": "methods.mimmu:MimMuSds",
        "mimmu-critic": "methods.mimmu:MimMuCritic",
        "mimmu-retain": "methods.mimmu_retain:MimMuRetain",
        "salun": "methods.salun:SalUn",
        "esd-x": "methods.esd:Esd",
        "esd-x-present": "methods.esd:EsdPresent",
        "esd-u": "methods.esd:EsdU",
        "sdd": "methods.sdd:Sdd",
        "erasediff": "methods.erasediff:EraseDiff",
        "shs": "methods.shs:Shs",
        "uce": "methods.uce:Uce",
        "rece": "methods.rece:Rece",
        "speed": "methods.speed:Speed",
        "negative-prompt": "methods.negative_prompt:NegativePrompt",
        "sld": "methods.sld:Sld",
        "safree": "methods.safree:Safree",
        "pretrained": "methods.pretrained:Pretrained",
        "wrecked": "methods.wrecked:Wrecked",
        ORACLE: "methods.oracle:Oracle",
    },
    group="lethe.methods",
    unlisted=(ORACLE,),
)
CONTROLS = ("pretrained", "wrecked")  # on every board, whether requested or not
REFERENCES = (*CONTROLS, ORACLE)  # rows without a rank that methods are compared with

__all__ = ["CONTROLS", "METHODS", "ORACLE", "REFERENCES", "Method"]
