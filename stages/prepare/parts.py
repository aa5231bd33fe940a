"""All images in parts for cross-validation: no patient and no group of copies in two of them."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import pandas as pd

from stages.prepare.schema import Split
from stages.verify.groups import group_files

LOSSY = ("JPEG", "JPEG2000", "WEBP")  # formats that change grey levels, or may
WHOLE = 1_000_000  # shares are whole numbers, so that no sum of them is rounded


def by_patient(images: pd.DataFrame, split: Split, seed: int, fold: int) -> pd.DataFrame:
    """Return the images that are used, in their order, with `array`: train, val, or test, for those of part `fold`.

    Parameters
    ----------
    images
        Usable files: path, label, sha256, patient, group, width, height, format. Their Training and Testing are not
        looked at.
    split
        How many parts, how much of the others validates, whether one picture of each group of copies is used.
    seed
        Of both choices.
    fold
        The part that tests, 0 on.

    Notes
    -----
    Both choices are functions of the seed and of the files' bytes, classes, patients and groups: neither the order of
    files nor their names matter.
    """
    images = images.assign(head=heads(images))
    whole = images.groupby("head")["sha256"].min()
    used = images[images["path"].isin(least_altered(images))] if split.unique else images
    groups = weighed(used).assign(sha256=whole)
    part = divide(groups, [1] * split.parts, f"{seed}")
    rest = groups[part != fold]
    held = rest.index[held_out(rest, split.val_fraction, f"{seed} validation {fold}")]
    array = used["head"].map(part).eq(fold).map({True: "test", False: "train"})
    return used.assign(array=array.mask(used["head"].isin(held), "val"))


def heads(images: pd.DataFrame) -> list[int]:
    """Return which images are one head, as far as is known: joined by a patient or a group of copies, or a chain.

    Numbers from 0 on, in the order of first files. An image whose patient is unknown ("") is joined by copies alone.
    """
    joined: list[tuple[int, int]] = []
    for column in ("patient", "group"):
        first: dict[str | int, int] = {}
        joined += [
            (first.setdefault(value, row), row) for row, value in enumerate(images[column].tolist()) if value != ""
        ]
    return group_files(len(images), joined)


def least_altered(images: pd.DataFrame) -> set[str]:
    """Return the path of one picture of each group of copies.

    It is that with most pixels; of equals one in a format that changes no grey level; of equals that with the smallest
    SHA-256, and of equals the first class and path. But where copies stand in several classes, it is of that which
    most pictures of their head are in, of equals most files.
    """
    of_class = images.groupby(["head", "label"])
    order = images.assign(
        pictures=of_class["group"].transform("nunique"),
        files=of_class["path"].transform("size"),
        pixels=images["width"] * images["height"],
        lossy=images["format"].isin(LOSSY),
    )
    rising = {"pictures": False, "files": False, "pixels": False, "lossy": True, "sha256": True}
    rising |= {"label": True, "path": True}
    return set(order.sort_values([*rising], ascending=[*rising.values()]).drop_duplicates("group")["path"])


def weighed(used: pd.DataFrame) -> pd.DataFrame:
    """Return a row a head, indexed by it: n, its images; label, that most of them have, of equals the first by name."""
    each = used.groupby(["head", "label"]).size().rename("n").reset_index()
    most = each.sort_values(["n", "label"], ascending=[False, True]).drop_duplicates("head").set_index("head")
    return pd.DataFrame({"n": used.groupby("head").size(), "label": most["label"]})


def divide(groups: pd.DataFrame, shares: Sequence[int], key: str) -> pd.Series:
    """Return the number of the share that each group is given to, by class as near to the shares as whole groups allow.

    Parameters
    ----------
    groups
        n (images), label, sha256 (one that no other group has), indexed by what the result is indexed by.
    shares
        How large the shares are to be against one another.
    key
        Of the order of groups.

    Notes
    -----
    Groups of a class are dealt out in bands, within which sizes differ by less than the root of 2: the largest band
    first. A band's groups stand in the order of a hash of (key, sha256) and are cut into runs, one a share, each as
    long as what its share still lacks. So small groups even out what large ones left; and a new group moves only those
    beside the cuts.
    """
    given = pd.Series(0, groups.index)
    order = groups.assign(hash=[hashlib.sha256(f"{key} {sha}".encode()).hexdigest() for sha in groups["sha256"]])
    order = order.assign(band=[(n * n).bit_length() for n in groups["n"].tolist()]).sort_values("hash")
    for _, alike in order.groupby("label"):
        lacks = [share * int(alike["n"].sum()) for share in shares]
        for _, band in sorted(alike.groupby("band"), reverse=True):
            given[band.index] = cut(len(band), lacks)
            for number, n in zip(given[band.index].tolist(), band["n"].tolist(), strict=True):
                lacks[number] -= n * sum(shares)
    return given


def cut(count: int, lacks: Sequence[int]) -> list[int]:
    """Return the share of each of `count` groups in a row: runs, as long as what the shares lack.

    Examples
    --------
    >>> cut(4, [10, 0, 10])
    [0, 0, 2, 2]
    """
    ends = [2 * count * end for end in accumulate(max(each, 0) for each in lacks)]
    return [bisect_right(ends, (2 * place + 1) * ends[-1] // (2 * count)) for place in range(count)]


def held_out(groups: pd.DataFrame, fraction: float, key: str) -> pd.Series:
    """Return which groups validate: `fraction` of each class, and one group at least where there are two."""
    share = max(1, round(fraction * WHOLE))
    held = divide(groups, [share, WHOLE - share], key) == 0
    for _, alike in groups.groupby("label"):
        if len(alike) > 1 and not held[alike.index].any():
            held[alike.sort_values(["n", "sha256"]).index[0]] = True
    return held
