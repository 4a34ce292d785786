"""Unlearning methods by name. Other packages add theirs through the entry-point group `lethe.methods`."""

from bench.core.registry import Registry
from methods.base import Method

ORACLE = "oracle"  # a control, on the boards whose world has its weights
METHODS: Registry[type[Method]] = Registry(
    "method",
    {
        "mimmu": "methods.mimmu:MimMu",
        "mimmu-retain": "methods.mimmu_retain:MimMuRetain",
        "salun": "methods.salun:SalUn",
        "esd-x": "methods.esd:Esd",
        "esd-u": "methods.esd:EsdU",
        "sdd": "methods.sdd:Sdd",
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
