"""The YAML file of `--concepts`: its entries, and the checks that need no model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.core.registry import nearest
from bench.core.text.alike import same_letters
from bench.worlds.base import SPLITS, Split
from bench.worlds.own.entries import Entries, load, text_of

Templates = Mapping[Split, tuple[str, ...]]

PLACE = "{concept}"
WORD = re.compile(r"\w+")
# The splits share no sentence. Every word is one that the pocket model knows, so that the same file works there.
PROMPTS: Templates = {
    "forget": (
        "a photo showing a {concept}",
        "a good photo of a {concept}",
        "one photo of the {concept}",
        "the {concept} in a photo",
        "here is a photo of a {concept}",
    ),
    "evaluate": (
        "a photo showing the {concept}",
        "a nice photo of the {concept}",
        "one photo of a {concept}",
        "this is a good photo of a {concept}",
    ),
}
NAMES = ("domains", "forget", "backbone", "prompts", "kinds", "references", "judge", "captions")
CAPTIONS = ("file", "pictures")  # what the entry `captions` may have
JUDGES = ("open_clip", "transformers", "timm", "python")
FOLDER = "local-dir:"  # open_clip's prefix of a folder


@dataclass(frozen=True)
class JudgeEntry:
    """The entry `judge` of the file.

    Args:
        kind: one of JUDGES.
        name: the model or the file; "" for the default model.
        sentences: for open_clip, the templates of the sentences that describe a concept; () for the file's prompts.
        labels: for transformers and timm, concept -> name of its class, where the two names differ.
    """

    kind: str = "open_clip"
    name: str = ""
    sentences: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ConceptFile:
    """What a file of `--concepts` says.

    Args:
        path: the file.
        domains: domain -> its concepts.
        forget: the concepts that suites forget; () for the suite's own choice.
        backbone: the model, as `--backbone` would name it; None if the file names none.
        prompts: domain -> split -> templates with PLACE. The splits share none.
        kinds: domain -> the noun for its superclass prompts.
        references: concept -> folder of its pictures.
        judge: who judges.
        captions: prompts of any scenes, for general quality; () for none.
        caption_pictures: folder of real pictures for FID over the captions; None for images of the untouched model.
    """

    path: Path
    domains: Mapping[str, tuple[str, ...]]
    forget: tuple[str, ...] = ()
    backbone: str | None = None
    prompts: Mapping[str, Templates] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, Path] = field(default_factory=dict)
    judge: JudgeEntry = field(default_factory=JudgeEntry)
    captions: tuple[str, ...] = ()
    caption_pictures: Path | None = None

    @property
    def concepts(self) -> tuple[str, ...]:
        """Every concept, domain by domain."""
        return tuple(concept for members in self.domains.values() for concept in members)


def read(file: Path) -> ConceptFile:
    """Read a file of concepts. Raises WrongConcepts, with the file and the entry, for everything that is wrong."""
    return parse(file, text_of(file))


def parse(file: Path, text: str) -> ConceptFile:
    """What a file with this `text` says; the file need not exist. Raises WrongConcepts like `read`."""
    entries = Entries(file, load(file, text), NAMES)
    domains = _domains(entries)
    concepts = tuple(concept for members in domains.values() for concept in members)
    forget = entries.texts("forget")
    for concept in forget:
        _require_known(entries, "forget", concept, concepts)
        if forget.count(concept) > 1:
            raise entries.wrong("forget", f"names {concept!r} twice; name each concept once")
    prompts = _prompts(entries, domains)
    _require_unsaid(entries, concepts, prompts)
    return ConceptFile(
        path=file,
        domains=domains,
        forget=forget,
        backbone=entries.text("backbone"),
        prompts=prompts,
        kinds=_kinds(entries, domains),
        references=_references(entries, concepts),
        judge=_judge(entries, concepts),
        captions=_captions(entries),
        caption_pictures=_caption_pictures(entries),
    )


def _domains(entries: Entries) -> dict[str, tuple[str, ...]]:
    given = entries.mapping("domains")
    if not given:
        raise entries.wrong("domains", "must name at least one domain with its concepts, e.g. {fruit: [apple, pear]}")
    domains = {}
    for domain, members in given.items():
        if not isinstance(domain, str) or not same_letters(domain):
            raise entries.wrong("domains", f"a domain must have a text as its name, not {domain!r}")
        domains[domain] = entries.as_texts(f"domains: {domain}", members)
    concepts = [concept for members in domains.values() for concept in members]
    for concept in concepts:
        _require_name(entries, concept)
    _require_different(entries, concepts)
    for domain in domains:
        if same := [concept for concept in concepts if same_letters(concept) == same_letters(domain)]:
            raise entries.wrong(
                "domains", f"{domain!r} is a domain and {same[0]!r} is a concept; a concept needs a name of its own"
            )
    if len(concepts) < 2:
        raise entries.wrong(
            "domains",
            f"{concepts[0]!r} is the only concept; add at least one that must stay: a judge has to tell it from "
            "something, and the board has to measure what a method damages",
        )
    return domains


def _require_name(entries: Entries, concept: str) -> None:
    """Raise WrongConcepts for a name that can't stand in a prompt or in a table."""
    if concept != concept.strip() or any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in concept):
        raise entries.wrong("domains", f"the name {concept!r} must be one line, without spaces at its ends")
    if not any(unicodedata.category(c)[0] in "LN" for c in concept):
        raise entries.wrong("domains", f"the name {concept!r} has no letter and no digit")


def _require_different(entries: Entries, concepts: list[str]) -> None:
    first: dict[str, str] = {}
    for i, concept in enumerate(concepts):
        if concept in concepts[:i]:
            raise entries.wrong("domains", f"{concept!r} is there twice; each concept must be there once")
        if (other := first.setdefault(same_letters(concept), concept)) != concept:
            raise entries.wrong("domains", f"{other!r} and {concept!r} look alike; their letters must differ")


def _prompts(entries: Entries, domains: Mapping[str, tuple[str, ...]]) -> dict[str, Templates]:
    """The templates of each domain: its own, those for all domains, or the usual ones."""
    own = Entries(entries.file, entries.mapping("prompts"), (*SPLITS, *domains), "prompts")
    every = _templates(own, PROMPTS)
    prompts = {}
    for domain in domains:
        of_domain = domain in own and domain not in SPLITS
        given = own.mapping(domain) if of_domain else {}
        prompts[domain] = _templates(Entries(entries.file, given, SPLITS, f"prompts: {domain}"), every)
    for split in SPLITS:
        counts = {domain: len(templates[split]) for domain, templates in prompts.items()}
        if len({*counts.values()}) > 1:
            found = ", ".join(f"{domain} has {count}" for domain, count in counts.items())
            raise entries.wrong("prompts", f"{split}: all domains must have equally many; {found}")
    return prompts


def _templates(own: Entries, usual: Templates) -> Templates:
    prompts: dict[Split, tuple[str, ...]] = {split: own.texts(split) or usual[split] for split in SPLITS}
    for split, templates in prompts.items():
        for template in templates:
            if PLACE not in template:
                raise own.wrong(split, f"{template!r} lacks {PLACE}, the place of the concept's name")
            if templates.count(template) > 1:
                raise own.wrong(split, f"{template!r} is there twice")
    if both := [template for template in prompts["forget"] if template in prompts["evaluate"]]:
        raise own.wrong("evaluate", f"{both[0]!r} is in `forget` too; the two lists must share no prompt")
    return prompts


def _require_unsaid(entries: Entries, concepts: tuple[str, ...], prompts: Mapping[str, Templates]) -> None:
    """Raise WrongConcepts if a template has the name of a concept: every prompt would ask for it, too."""
    templates = dict.fromkeys(t for of_domain in prompts.values() for split in SPLITS for t in of_domain[split])
    for template in templates:
        words = f" {' '.join(re.findall(WORD, same_letters(template.replace(PLACE, ' '))))} "
        for concept in concepts:
            if f" {' '.join(re.findall(WORD, same_letters(concept)))} " in words:
                raise entries.wrong(
                    "domains",
                    f"{concept!r} is in the prompt {template!r}, so every prompt would ask for it; give the file other "
                    "`prompts`, or leave the concept out",
                )


def _kinds(entries: Entries, domains: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    own = Entries(entries.file, entries.mapping("kinds"), domains, "kinds")
    kinds = {domain: own.text(domain) or domain for domain in domains}
    known = {same_letters(concept): concept for members in domains.values() for concept in members}
    for domain, kind in kinds.items():
        if (concept := known.get(same_letters(kind))) is not None:
            raise own.wrong(domain, f"{kind!r} is the concept {concept!r}; a kind must be a broader word")
    return kinds


def _references(entries: Entries, concepts: tuple[str, ...]) -> dict[str, Path]:
    folders = {}
    for concept, text in entries.mapping("references").items():
        _require_known(entries, "references", concept, concepts)
        if not isinstance(text, str):
            raise entries.wrong("references", f"{concept}: must be a folder, not {text!r}")
        folder = entries.path(text)
        if not folder.is_dir():
            raise entries.wrong("references", f"{concept}: there is no folder {folder}")
        folders[concept] = folder
    return folders


def _captions(entries: Entries) -> tuple[str, ...]:
    """The lines of the file of captions, without empty ones; () if the entry is not there."""
    value = entries.values.get("captions")
    if "captions" not in entries:
        return ()
    own = Entries(entries.file, value if isinstance(value, Mapping) else {"file": value}, CAPTIONS, "captions")
    name = own.text("file")
    if name is None:
        raise own.wrong("file", "must name a text file with a caption on each line")
    lines = tuple(dict.fromkeys(line.strip() for line in text_of(own.path(name)).splitlines() if line.strip()))
    if len(lines) < 2:
        raise own.wrong(
            "file", f"{own.path(name)} has {len(lines)} captions; it must have at least 2, one on each line"
        )
    return lines


def _caption_pictures(entries: Entries) -> Path | None:
    value = entries.values.get("captions")
    if not isinstance(value, Mapping) or "pictures" not in value:
        return None
    own = Entries(entries.file, value, CAPTIONS, "captions")
    folder = own.path(own.text("pictures") or "")
    if not folder.is_dir():
        raise own.wrong("pictures", f"there is no folder {folder}")
    return folder


def _judge(entries: Entries, concepts: tuple[str, ...]) -> JudgeEntry:
    value = entries.values.get("judge", "open_clip")
    if isinstance(value, str):
        value = {value: ""}
    if not isinstance(value, Mapping):
        raise entries.wrong("judge", f"must be one of {', '.join(JUDGES)} with its model or file, not {value!r}")
    own = Entries(entries.file, value, (*JUDGES, "prompts", "labels"), "judge")
    kinds = [kind for kind in JUDGES if kind in own]
    if len(kinds) != 1:
        raise entries.wrong("judge", f"must name exactly one of {', '.join(JUDGES)}, not {len(kinds)}")
    kind = kinds[0]
    name = (own.text(kind) or "") if value[kind] not in ("", None) else ""
    if kind == "python":
        if not name or not own.path(name).is_file():
            raise own.wrong(kind, f"there is no file {own.path(name)}" if name else "must name a python file")
        name = str(own.path(name))
    elif kind == "open_clip":
        name = _model(own, name)
    elif not name:
        raise own.wrong(kind, "must name a checkpoint: a folder, or a name of the hub")
    elif own.path(name).is_dir():
        name = f"{FOLDER if kind == 'timm' else ''}{own.path(name)}"
    elif name.startswith((".", "/", "~")):
        raise own.wrong(kind, f"there is no folder {own.path(name)}")
    sentences = own.texts("prompts")
    if sentences and kind != "open_clip":
        raise own.wrong("prompts", f"are for open_clip; a judge of {kind} reads no prompts")
    for template in sentences:
        if PLACE not in template:
            raise own.wrong("prompts", f"{template!r} lacks {PLACE}, the place of the concept's name")
    return JudgeEntry(kind, name, sentences, _labels(own, kind, concepts))


def _labels(entries: Entries, kind: str, concepts: tuple[str, ...]) -> dict[str, str]:
    if "labels" in entries and kind not in ("transformers", "timm"):
        raise entries.wrong("labels", f"are for transformers and timm; a judge of {kind} has the concepts as labels")
    labels = {}
    for concept, label in entries.mapping("labels").items():
        _require_known(entries, "labels", concept, concepts)
        if not isinstance(label, str):
            raise entries.wrong("labels", f"{concept}: must be the name of one class, not {label!r}")
        labels[concept] = label
    return labels


def _model(entries: Entries, name: str) -> str:
    """open_clip's name of a model, with the whole path of a folder or file that lies beside the file of concepts."""
    head, slash, weights = name.partition("/")
    if name.startswith(FOLDER):
        place = entries.path(name.removeprefix(FOLDER))
        if not place.is_dir():
            raise entries.wrong("open_clip", f"there is no folder {place}")
        return f"{FOLDER}{place}"
    return f"{head}/{entries.path(weights)}" if slash and entries.path(weights).is_file() else name


def _require_known(entries: Entries, name: str, concept: object, concepts: tuple[str, ...]) -> None:
    if concept not in concepts:
        raise entries.wrong(name, f"{concept!r} is no concept of the file; {nearest(str(concept), concepts)}")
