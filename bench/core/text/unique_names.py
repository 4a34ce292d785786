"""Reads YAML, and refuses a name that stands twice."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml


class UniqueNames(yaml.SafeLoader):
    """A loader that refuses a name that a mapping has twice; YAML's own loader keeps the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and names.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
        return super().construct_mapping(node, deep)
