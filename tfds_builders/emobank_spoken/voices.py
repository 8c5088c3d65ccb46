"""Speakers: espeak-ng voice variants, each with one English accent and one split."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Speaker:
    """A voice.

    Attributes:
      variant: espeak-ng voice variant, which is unique and serves as speaker id.
      accent: espeak-ng language file.
      gender: gender in the variant's file; "" if it has none.
      split: split of the speaker.
    """

    variant: str
    accent: str
    gender: str
    split: str

    @property
    def voice(self) -> str:
        """Name of the voice for espeak-ng."""
        return f"gmw/{self.accent}+{self.variant}"


# Excluded: variants with `breath` (their noise reads uninitialised memory and is not reproducible), robots, whispers,
# and near-copies of a voice in another split. West Midlands English occurs in dev and test only.
SPEAKERS = tuple(
    Speaker(variant, accent, gender, split)
    for split, voices in {
        "train": (
            ("f1", "en-US", "female"),
            ("f4", "en-GB-x-rp", "female"),
            ("aunty", "en-GB-scotland", "female"),
            ("Andrea", "en-US", "female"),
            ("belinda", "en-US-nyc", "female"),
            ("steph", "en-029", "female"),
            ("m1", "en-US", "male"),
            ("kaukovalta", "en-GB-x-rp", ""),
            ("Jacky", "en-GB-x-gbclan", ""),
            ("m7", "en-US-nyc", "male"),
            ("Andy", "en-US", "male"),
            ("Diogo", "en-GB-scotland", "male"),
            ("Marco", "en", "male"),
            ("antonio", "en-US", "male"),
            ("Nguyen", "en-GB-x-rp", ""),
            ("ed", "en-029", ""),
            ("paul", "en", ""),
            ("norbert", "en-GB-x-gbclan", ""),
        ),
        "dev": (
            ("Annie", "en-US", "female"),
            ("grandma", "en-GB-x-rp", "female"),
            ("m6", "en-GB-x-gbcwmd", "male"),
            ("Denis", "en-US", "male"),
            ("Lee", "en-GB-scotland", "male"),
            ("quincy", "en-US-nyc", ""),
        ),
        "test": (
            ("anika", "en-US", "female"),
            ("linda", "en-GB-x-gbcwmd", "female"),
            ("shelby", "en-GB-x-rp", ""),
            ("m2", "en-GB-scotland", "male"),
            ("m8", "en-US-nyc", "male"),
            ("miguel", "en-US", "male"),
            ("travis", "en-029", "male"),
            ("ian", "en-GB-x-rp", ""),
        ),
    }.items()
    for variant, accent, gender in voices
)
"""All speakers."""
