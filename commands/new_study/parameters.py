"""The params.yaml of a new study: the root's, in whatever form that is, with what differs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from commands.new_study.look import Found
from commands.new_study.patients import Told
from stages import dialect
from stages.fetch import tree

HEAD = """A study of your own, made by `brainmri new-study`. Every key is written out: nothing is hidden.
Try another value without editing: dvc exp run -S lr=1e-4"""


class _Representer(RoundTripRepresenter):
    """Writes `null` in full, and quotes text that a reader of YAML 1.1 or 1.2 could take for something else."""

    def null(self, _: None) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")

    def text(self, data: str) -> ScalarNode:
        return self.represent_scalar(dialect.TEXT, data, style=None if dialect.is_text(data) else "'")


_Representer.add_representer(type(None), _Representer.null)
_Representer.add_representer(str, _Representer.text)


def filled_in(
    template: str, name: str, location: str | None, found: Found, said: Told | None, folds: int | None = None
) -> str:
    """Return the text of params.yaml: the template's, comments kept where that can be done, with what differs.

    The document is changed, not its text: DVC writes it anew at each `dvc exp run -S`, in a form of its own.
    """
    wanted = _own(dialect.parse(template))
    change(wanted, name, location, found, said, folds)
    yaml = YAML()
    yaml.width, yaml.preserve_quotes, yaml.Representer = 4096, True, _Representer
    values = yaml.load(template)
    change(values, name, location, found, said, folds)
    values.yaml_set_start_comment(HEAD + "\n\n")
    text = io.StringIO()
    yaml.dump(values, text)
    try:
        if dialect.parse(text.getvalue()) == wanted:
            return text.getvalue()
    except dialect.NotYaml:
        pass
    # ruamel.yaml's comments do not outlive every change, and anchors may tie together what is to differ
    return "".join(f"# {line}\n" for line in HEAD.splitlines()) + "\n" + dialect.written(wanted)


def by_patient(found: Found, said: Told | None, folds: int | None) -> bool:
    """Whether all images are divided by patient: in folds, and where patients are known and no test set is given."""
    return bool(folds or ((said or found.intake) and found.split))


def change(values: Any, name: str, location: str | None, found: Found, said: Told | None, folds: int | None) -> None:
    """Put into the root's parameters what differs in a study of one's own."""
    fetch = values["fetch"]
    values["root"] = "../.."
    values["classes"] = _as(values["classes"], found.classes)
    fetch["source"] = "archive"
    fetch["archive"]["location"] = location
    fetch["split"] = _as(fetch["split"], found.split.model_dump()) if found.split else None
    fetch["patients"] = _as(fetch["patients"], said.settings.model_dump(exclude_defaults=True)) if said else None
    fetch["scans"] = _as(fetch["scans"], found.intake.rule.model_dump()) if found.intake else None
    if by_patient(found, said, folds):
        values["split"]["protocol"] = "by_patient"
    if folds:
        split = values["split"]
        split["parts"], split["networks"] = folds, "folds"
        split["folds"] = _as(split["folds"], {str(fold): f"/folds/{fold}" for fold in range(folds)})
    fetch["tree_digest"] = tree.digest(found.hashes)
    values["report"]["title"] = f"{name}: ResNet-50 on images of your own"
    values["verify"]["expected"] = {split: _as(None, count) for split, count in found.counts().items()}


def _as(old: Any, new: Sequence[str] | Mapping[str, Any]) -> Any:
    """Return a list or mapping on one line, or written as the one that it replaces: else comments would break it."""
    made = CommentedMap(new) if isinstance(new, Mapping) else CommentedSeq(new)
    if not (isinstance(old, CommentedMap | CommentedSeq) and old.fa.flow_style() is False):
        made.fa.set_flow_style()
    return made


def _own(value: Any) -> Any:
    """Return a copy in which no two places hold one and the same list or mapping."""
    if isinstance(value, dict):
        return {key: _own(each) for key, each in value.items()}
    return [_own(each) for each in value] if isinstance(value, list) else value
