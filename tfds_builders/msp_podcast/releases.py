"""Releases of MSP-Podcast: splits and published sizes."""

import dataclasses
from collections.abc import Mapping

from emojax.types import SplitAssignment

SPLITS = ("train", "development", "test1", "test2", "test3")
"""Names of the splits; Test1 and Test2 share speakers and are not merged."""

_SPELLINGS = {
    "train": "train",
    "validation": "development",
    "development": "development",
    "dev": "development",
    "test1": "test1",
    "test2": "test2",
    "test3": "test3",
}


@dataclasses.dataclass(frozen=True)
class Release:
    """A release.

    Attributes:
      name: name of the builder config.
      title: official name.
      sizes: published number of segments per split, if known; differences are reported.
      splits: splits of the release.
      single_test: whether the only test split is named "Test", which corresponds to "Test1" of later releases.
    """

    name: str
    title: str
    sizes: Mapping[str, int]
    splits: tuple[str, ...]
    single_test: bool = False

    def split_of(self, written: str) -> str | None:
        """Normalises the name of a split; None if the release has no such split."""
        key = written.strip().lower().replace(" ", "").replace("_", "")
        split = "test1" if self.single_test and key == "test" else _SPELLINGS.get(key)
        return split if split in self.splits else None

    @property
    def split_assignment(self) -> SplitAssignment:
        """Default splits; a challenge release has no labelled test split."""
        tests = tuple(split for split in self.splits if split in ("test1", "test2"))
        return SplitAssignment("train", "development", tests or ("development",))


def _release(version: str, sizes: tuple[int, ...] = (), splits: int = 5, single_test: bool = False) -> Release:
    names = SPLITS[:splits]
    known = dict(zip(names, sizes, strict=True)) if sizes else {}
    return Release(f"v{version.replace('.', '_')}", version, known, names, single_test)


RELEASES = (
    _release("1.11", (84_030, 19_815, 30_647, 14_815, 2_347)),
    _release("1.3", splits=3, single_test=True),
    _release("1.6", (34_280, 5_958, 10_124), splits=3, single_test=True),
    _release("1.7", (38_179, 7_538, 12_902, 3_521), splits=4),
    _release("1.8", (44_879, 7_800, 15_326, 5_037), splits=4),
    _release("1.9", splits=4),
    _release("1.10", splits=4),
    _release("1.12"),
    Release("challenge", "challenge", {}, ("train", "development", "test3")),
    _release("2.0", (169_190, 34_399, 46_294, 14_822, 3_200)),
)
"""Releases, the default first. 1.9, 1.10 and 1.12 have no published sizes per split; the challenge has several
versions. The layout of 1.3 is not publicly documented: it is read if it matches one of the others."""

BY_NAME = {release.name: release for release in RELEASES}
