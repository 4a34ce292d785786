"""`--config FILE`: reads the flags of a run from a YAML file.

Names are those of the flags. A value is parsed like the words on the command line. An error message has the line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.core.flags import Flag
from bench.core.registry import nearest

TAG = "tag:yaml.org,2002:"
KINDS = {"str": "text", "int": "the number", "float": "the number", "bool": "true or false", "null": "nothing"}
SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class WrongFile(ValueError):
    """A run file is invalid. The message has the file, the line and the expected form."""


def parse(file: Path, known: Mapping[str, Flag]) -> dict[str, Any]:
    """Field -> parsed value, for every field in the file. A flag with several words has a list of values.

    Args:
        file: the YAML file.
        known: field -> flag. The file may write "-" or "_" in the name of a flag.

    Raises WrongFile.
    """
    try:
        root = yaml.compose(file.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise WrongFile(f"--config {file}: can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise WrongFile(f"--config {file}: not a text file in UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise WrongFile(f"--config {file}{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise _wrong(file, root, "a run file has lines of the form `name: value`, e.g. `methods: [mimmu, salun]`")
    fields = {flag.name: field for field, flag in known.items()}
    return {
        fields[name]: _value(file, value, known[fields[name]]) for name, value in _entries(file, root, tuple(fields))
    }


def _entries(file: Path, node: yaml.MappingNode, known: Sequence[str] = ()) -> list[tuple[str, yaml.Node]]:
    """Names and values of a mapping. Raises WrongFile if a name is given twice or is not in `known`."""
    found: dict[str, yaml.Node] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _wrong(file, key, "a name must be a single word")
        name = key.value.replace("_", "-") if known else key.value
        if known and name not in known:
            raise _wrong(file, key, f"no flag is called {key.value!r}: {nearest(name, known)}")
        if name in found:
            raise _wrong(file, key, f"{key.value!r} is given twice")
        found[name] = value
    return list(found.items())


def _value(file: Path, node: yaml.Node, flag: Flag) -> Any:
    if flag.switch:
        if not isinstance(node, yaml.ScalarNode) or node.tag != f"{TAG}bool":
            raise _wrong(file, node, f"{flag.name} takes true or false, not {_said(node)}")
        return SWITCHES[node.value.lower()]
    if isinstance(node, yaml.MappingNode):
        if not flag.mapping:
            raise _wrong(file, node, f"{flag.name} takes {_form(flag)}, not a mapping")
        words = _mapped(file, node, flag)
    elif isinstance(node, yaml.SequenceNode):
        if not flag.many and flag.joined is None:
            raise _wrong(file, node, f"{flag.name} takes {_form(flag)}, not a list")
        words = [_word(file, each, flag) for each in node.value]
        if not words:
            raise _wrong(file, node, f"{flag.name} takes {_form(flag)}, not an empty list")
        if flag.joined is not None:
            words = [flag.joined(words)]
    else:
        words = [_word(file, node, flag)]
    try:
        values = [flag.parse(word) for word in words]
        if flag.many:
            flag.gather(values)  # so that a mistake is reported with its line
        elif flag.choices and values[0] not in flag.choices:
            raise ValueError(f"takes one of {', '.join(flag.choices)}, not {values[0]!r}")
    except ValueError as error:
        raise _wrong(file, node, f"{flag.name}: {error}") from None
    return values if flag.many else values[0]


def _mapped(file: Path, node: yaml.MappingNode, flag: Flag) -> list[str]:
    """The words for {section: {name: value}}, or the single word for {name: value}."""
    if not flag.many:  # options of a cluster
        return [",".join(f"{name}={_word(file, value, flag)}" for name, value in _entries(file, node))]
    words = []
    for section, settings in _entries(file, node):
        if not isinstance(settings, yaml.MappingNode):
            raise _wrong(file, settings, f"{flag.name} takes {{{section}: {{FIELD: VALUE}}}}, not {_said(settings)}")
        for name, value in _entries(file, settings):
            listed = flag.ranges and isinstance(value, yaml.SequenceNode)
            texts = [_setting(file, each) for each in value.value] if listed else [_setting(file, value)]
            if listed and (wrong := [text for text in texts if "," in text and text[0] not in "(["]):
                raise _wrong(file, value, f"a value of {flag.name} can't have a comma: {wrong[0]!r}")
            words.append(f"{section}.{name}={','.join(texts)}")
    return words


def _setting(file: Path, node: yaml.Node) -> str:
    """A value in the syntax of --set: a scalar as in the file, a list in brackets."""
    if isinstance(node, yaml.ScalarNode):
        if node.tag == f"{TAG}bool":
            return str(SWITCHES[node.value.lower()]).lower()
        return "none" if node.tag == f"{TAG}null" else node.value
    if isinstance(node, yaml.SequenceNode):
        texts = [
            repr(each.value) if isinstance(each, yaml.ScalarNode) and each.tag == f"{TAG}str" else _setting(file, each)
            for each in node.value
        ]
        return f"[{', '.join(texts)}]"
    raise _wrong(file, node, "a setting takes a text, a number or a list, not a mapping")


def _word(file: Path, node: yaml.Node, flag: Flag) -> str:
    """A scalar as in the file. Raises WrongFile for other nodes and for a scalar of the wrong type."""
    text_only = flag.parse is str and not flag.mapping
    if not isinstance(node, yaml.ScalarNode) or node.tag in (f"{TAG}null", f"{TAG}bool"):
        raise _wrong(file, node, f"{flag.name} takes {_form(flag)}, not {_said(node)}")
    if text_only and node.tag != f"{TAG}str":
        raise _wrong(file, node, f'{flag.name} takes text, not {_said(node)}; for a text write "{node.value}"')
    if flag.parse is int and node.tag != f"{TAG}int":
        raise _wrong(file, node, f"{flag.name} takes {_form(flag)}, not {_said(node)}")
    return node.value


def _form(flag: Flag) -> str:
    """The form of a flag's value, for messages."""
    kind = "a whole number" if flag.parse is int else "text" if flag.parse is str else f"a value ({flag.metavar})"
    return f"{kind}, or a list of several" if flag.many else kind


def _said(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    kind = KINDS.get(node.tag.removeprefix(TAG), node.tag.removeprefix(TAG))
    return kind if kind == "nothing" else f"{kind} ({node.value})"


def _wrong(file: Path, node: yaml.Node, message: str) -> WrongFile:
    return WrongFile(f"--config {file}, line {node.start_mark.line + 1}: {message}")
