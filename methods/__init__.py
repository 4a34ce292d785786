"""Unlearning methods by name; other packages add theirs through the entry-point group `lethe.methods`."""

from bench.core.registry import Registry
from methods.base import Method

ORACLE = "oracle"  # a control on every board whose tasks it exists for
METHODS: Registry[type[Method]] = Registry(
    "method",
    {
        "mimmu": "methods.mimmu:MimMu",
        "mimmu-retain": "methods.mimmu_retain:MimMuRetain",
        "salun": "methods.salun:SalUn",
        "esd-x": "methods.esd:Esd",
        "esd-u": "methods.esd:EsdU",
        "sdd": "methods.sdd:Sdd",
        "pretrained": "methods.pretrained:Pretrained",
        "wrecked": "methods.wrecked:Wrecked",
        ORACLE: "methods.oracle:Oracle",
    },
    group="lethe.methods",
    unlisted=(ORACLE,),
)
CONTROLS = ("pretrained", "wrecked")  # on every board, asked for or not
REFERENCES = (*CONTROLS, ORACLE)  # rows that methods are compared with, and that have no rank

__all__ = ["CONTROLS", "METHODS", "ORACLE", "REFERENCES", "Method"]
