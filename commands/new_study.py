"""`brainmri new-study`: make a study from one's own images in class folders."""

from __future__ import annotations

import argparse
import io
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml as pyyaml
from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import SingleQuotedScalarString

from stages import params
from stages.fetch import source, tree
from stages.fetch.archive import members
from stages.fetch.extract import hashed, with_splits
from stages.fetch.layout import SPLITS, Layout, is_hidden
from stages.fetch.names import Parts
from stages.fetch.schema import ClassName, LimitParams, Params, SplitParams
from stages.files import atomic_folder
from stages.shell.errors import InputError

SPLIT_LIKE = {"train", "test", "training", "testing"}
IGNORED = "/data/\n/models/*\n!/models/MODEL_CARD.md\n/logs/\n/report/\n"


@dataclass(frozen=True)
class Found:
    """What a source has: classes in order, the sha256 of each `<split>/<class>/<file>`, and how the split was made."""

    classes: list[str]
    hashes: dict[str, str]
    split: SplitParams | None


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser("new-study", help="make a study from your own images", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="the study becomes studies/NAME")
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="zip, tar, folder or http(s) URL with Training/<class>/ and "
        "Testing/<class>/, or with <class>/ only, from which a test set is then taken",
    )
    parser.add_argument(
        "--test-fraction", type=float, metavar="F", help="of each class, where a test set is made (default: 0.2)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="by which it is drawn (default: 0)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look through the source, write studies/NAME, print the counts."""
    root = find_root(Path.cwd())
    study = free_folder(root, args.name)
    template = (root / "params.yaml").read_text(encoding="utf-8")
    limits = params.load(Params, root / "params.yaml").fetch.limits
    location = args.source if source.is_url(args.source) else str(Path(args.source).resolve())
    found = look(source.locate(location, limits.total_bytes, "SOURCE"), limits, args.test_fraction, args.seed)
    with atomic_folder(study) as folder:
        (folder / "params.yaml").write_text(filled_in(template, args.name, location, found), encoding="utf-8")
        params.load(Params, folder / "params.yaml")
        for name in ("dvc.yaml", "versions.yaml"):  # the same in every study
            (folder / name).write_bytes((root / name).read_bytes())
        (folder / ".gitignore").write_text(IGNORED)
        (folder / tree.LISTING).write_text(tree.listing(found.hashes), encoding="utf-8")
    print(counts_table(found))
    print(f"\nstudies/{args.name} is made. Look at its params.yaml, then: cd studies/{args.name} && dvc repro")
    return 0


def find_root(here: Path) -> Path:
    """Return the project's root, in or above a folder."""
    for folder in (here, *here.parents):
        if (
            (folder / "stages" / "fetch").is_dir()
            and (folder / "params.yaml").is_file()
            and (folder / "dvc.yaml").is_file()
        ):
            return folder
    raise InputError(
        f"{here} is not in a clone of the project: expected to stand where params.yaml and stages/ are, or below"
    )


def free_folder(root: Path, name: str) -> Path:
    """Return where a study of that name goes; an InputError if the name is bad or taken."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise InputError(
            f"NAME is {name!r}: expected letters, digits, _ and -, at most 64, beginning with a letter or digit"
        )
    if os.path.lexists(root / "studies" / name):
        raise InputError(f"studies/{name} is there already: choose another name, or remove it first")
    return root / "studies" / name


def look(at: source.Source, limits: LimitParams, test_fraction: float | None, seed: int | None) -> Found:
    """Find the classes and hash every image; make a test set where there is none."""
    files = [parts for parts, _ in members(at.path, limits, at.name) if not is_hidden(parts)]
    has_splits = any(split in parts[:-1][:2] for parts in files for split in SPLITS)
    if has_splits and (test_fraction is not None or seed is not None):
        raise InputError(
            f"{at.name} has Training and Testing: --test-fraction and --seed are for sources that have not"
        )
    classes = class_names(files, has_splits, at.name)
    split = None if has_splits else split_params(0.2 if test_fraction is None else test_fraction, seed or 0)
    hashes = hashed(members(at.path, limits, at.name), Layout(classes, has_splits, at.name))
    return Found(classes, with_splits(hashes, split) if split else hashes, split)


def class_names(files: Collection[Parts], has_splits: bool, where: str) -> list[str]:
    """Return the names of the class folders, sorted.

    They lie in Training and Testing or at the top; either may lie in one single folder around everything.
    """
    if has_splits:
        inner = [parts[1:] if parts[0] in SPLITS else parts[2:] for parts in files if set(parts[:2]) & set(SPLITS)]
    else:
        around = len({parts[0] for parts in files if len(parts) > 1}) == 1 and any(len(parts) > 2 for parts in files)
        inner = [parts[1:] if around else parts for parts in files]
    names = sorted({parts[0] for parts in inner if len(parts) > 1})
    if not has_splits and (taken := sorted(set(map(str.casefold, names)) & SPLIT_LIKE)):
        raise InputError(f"{where}: {taken[0]!r} looks like one half of a split: call the halves Training and Testing")
    if len(names) < 2:
        raise InputError(
            f"{where}: {len(names)} class folders{f' ({names[0]})' if names else ''}; expected at least 2, "
            "each with its images: <class>/<file>, or Training/<class>/<file> and Testing/<class>/<file>"
        )
    for name in names:
        try:
            TypeAdapter(ClassName).validate_python(name)
        except ValidationError as error:
            raise InputError(f"{where}: {error.errors()[0]['ctx']['error']}; rename the folder") from None
    return names


def split_params(test_fraction: float, seed: int) -> SplitParams:
    """Return the two options, checked."""
    try:
        return SplitParams(test_fraction=test_fraction, seed=seed)
    except ValidationError as error:
        item = error.errors()[0]
        option = str(item["loc"][0]).replace("_", "-")
        raise InputError(f"--{option} = {item['input']}: {item['msg'][:1].lower()}{item['msg'][1:]}") from None


def filled_in(template: str, name: str, location: str, found: Found) -> str:
    """Return the text of params.yaml for the new study: the root's, comments kept, with what differs."""
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 4096, True
    yaml.representer.add_representer(type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null"))
    values = yaml.load(template)
    values["root"] = "../.."
    values["classes"] = _flow(found.classes)
    fetch = values["fetch"]
    fetch["source"] = "archive"
    fetch["archive"]["location"] = _text(location)
    fetch["split"] = _flow_map(found.split.model_dump()) if found.split else None
    fetch["tree_digest"] = tree.digest(found.hashes)
    values["report"]["title"] = f"{name}: ResNet-50 on images of your own"
    values["verify"]["expected"] = CommentedMap((split, _flow_map(count)) for split, count in counts(found).items())
    text = io.StringIO()
    yaml.dump(values, text)
    first, _, rest = text.getvalue().partition("\n")
    title = "# A study of your own, made by `brainmri new-study`. Every key is written out: nothing is hidden."
    return f"{title}\n{rest}" if first.startswith("#") else text.getvalue()


def counts(found: Found) -> dict[str, dict[str, int]]:
    """Return {split: {class: files}}."""
    number = Counter(tuple(path.split("/")[:2]) for path in found.hashes)
    return {split: {label: number[split, label] for label in found.classes} for split in SPLITS}


def counts_table(found: Found) -> str:
    """Return the counts as a table for people."""
    width = max(len("class"), *map(len, found.classes))
    number = counts(found)
    rows: list[tuple[str, ...]] = [("class", *SPLITS)]
    rows += [(label, *(f"{number[split][label]:,}" for split in SPLITS)) for label in found.classes]
    rows.append(("all", *(f"{sum(number[split].values()):,}" for split in SPLITS)))
    made = " (test set made here)" if found.split else ""
    return "\n".join(f"{row[0]:<{width}}  {row[1]:>8}  {row[2]:>8}" for row in rows) + made


def _text(text: str) -> str:
    """Quote what YAML 1.1 takes for something else than text: a class may be called `no` or `2`."""
    try:
        return text if pyyaml.safe_load(text) == text else SingleQuotedScalarString(text)
    except pyyaml.YAMLError:
        return SingleQuotedScalarString(text)


def _flow(items: list[str]) -> CommentedSeq:
    sequence = CommentedSeq(map(_text, items))
    sequence.fa.set_flow_style()
    return sequence


def _flow_map(items: Mapping[str, float]) -> CommentedMap:
    mapping = CommentedMap((_text(key), value) for key, value in items.items())
    mapping.fa.set_flow_style()
    return mapping
