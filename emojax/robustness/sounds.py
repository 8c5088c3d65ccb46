"""Sounds of the grid: environment noise, music, other talkers of the corpus, and rooms with reverberation times."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float32

from emojax.audio.music import music_like
from emojax.audio.waveform_augment import SoundBank, noise_bank, room_bank
from emojax.data import Corpus, open_split, read_index
from emojax.data.corpus import read_utterances
from emojax.errors import ConfigError
from emojax.robustness.config import RobustnessGridConfig
from emojax.types import SAMPLE_RATE

_MUSIC_PIECES = 16
_TALKER_CLIPS, _TALKER_SECONDS = 64, 8.0
_ENOUGH_TALKERS = 8
"""Talkers that a split must have so that its babble needs no other split: any speaker and seven others."""


@dataclasses.dataclass(frozen=True, eq=False)
class Talkers:
    """Clips of speech that babble is made of.

    Attributes:
      bank: clips at a mean power of 1.
      ids: id of each clip.
      speakers: speaker of each clip; "" where unknown.
    """

    bank: SoundBank
    ids: tuple[str, ...]
    speakers: tuple[str, ...]

    @property
    def missing(self) -> str:
        """Reason why no babble of other talkers can be made; "" if it can."""
        if len(self.ids) < 2:
            return "the corpus has no second clip that is not silent"
        return "the corpus has one speaker" if len(set(self.speakers)) == 1 and self.speakers[0] else ""

    @property
    def note(self) -> str:
        """What differs from 4 to 7 other talkers; "" if nothing."""
        if "" in self.speakers:
            return "speakers are unknown: babble of other clips"
        others = len(set(self.speakers)) - 1
        return "" if others >= 7 else f"{others} other talkers, several clips of each"


@dataclasses.dataclass(frozen=True, eq=False)
class GridSounds:
    """Sounds that clips are degraded with.

    Attributes:
      noises: recorded or synthesised noise by kind; none of white noise and babble.
      talkers: speech for babble; None if not needed.
      rooms: impulse responses in order of their reverberation times; None if not needed.
      rt60: reverberation time of each room (s).
    """

    noises: dict[str, SoundBank]
    talkers: Talkers | None = None
    rooms: SoundBank | None = None
    rt60: tuple[float, ...] = ()


def load_sounds(config: RobustnessGridConfig, talkers: Talkers | None) -> GridSounds:
    """Loads the noises and rooms that a config needs.

    Args:
      config: settings of the grid.
      talkers: speech for babble, from `find_talkers`.

    Raises:
      ConfigError: a folder does not exist, or has no audio files.
      AudioError: a file cannot be read, or is silent; the message names it.
    """
    noise, noises = config.noise, {}
    reverberant_noise = config.rooms.count > 0 and bool(config.rooms.noise_snrs_db)
    if "environment" in noise.kinds or reverberant_noise:
        noises["environment"] = _noises(config, noise.folder, environment_file)
    if "music" in noise.kinds:
        noises["music"] = (
            _noises(config, noise.music_folder, music_file)
            if noise.music_folder
            else synthetic_music(min(_MUSIC_PIECES, noise.files), noise.seconds, config.seed)
        )
    rooms: SoundBank | None = None
    times: tuple[float, ...] = ()
    if config.rooms.count:
        rooms, times = _rooms(config)
    return GridSounds(noises, talkers if "babble" in noise.kinds else None, rooms, times)


def synthetic_music(pieces: int, seconds: float, seed: int) -> SoundBank:
    """Synthesises pieces of `music_like` noise.

    Args:
      pieces: number of pieces.
      seconds: length of each (s).
      seed: the same seed gives the same pieces.
    """
    sounds = np.stack(
        [music_like(round(seconds * SAMPLE_RATE), np.random.default_rng([seed, piece])) for piece in range(pieces)]
    )
    lengths = np.full(pieces, sounds.shape[1], np.int32)
    return SoundBank(sounds, lengths, tuple(f"synthetic music {piece}" for piece in range(pieces)))


def find_talkers(corpus: Corpus, split: str, seed: int) -> Talkers:
    """Draws clips of as many talkers as possible from a split, and from the others if it has few talkers.

    Args:
      corpus: corpus.
      split: split under test.
      seed: seed of the choice.

    Raises:
      CorpusError: a split cannot be read.
    """
    clips, ids, speakers = [], [], []
    for name in (split, *(name for name, size in corpus.split_sizes.items() if size and name != split)):
        index, source = read_index(corpus, name), open_split(corpus, name)
        rows = _by_turns(index.speakers.tolist(), seed)[:_TALKER_CLIPS]
        for utterance in read_utterances(source, rows, corpus.describe(name)):
            clips.append(utterance["audio"].astype(np.float32) / np.float32(2**15))
            ids.append(utterance["id"])
            speakers.append(utterance["speaker"])
        distinct = set(speakers)
        if len(distinct - {""}) >= _ENOUGH_TALKERS or ("" in distinct and len(clips) >= _ENOUGH_TALKERS):
            break
    return talkers_of(clips, ids, speakers)


def talkers_of(clips: Sequence[np.ndarray], ids: Sequence[str], speakers: Sequence[str]) -> Talkers:
    """Makes a bank of talkers; silent clips are dropped, long ones are truncated.

    Args:
      clips: float waveforms at 16 kHz.
      ids: id of each.
      speakers: speaker of each; "" where unknown.
    """
    longest = round(_TALKER_SECONDS * SAMPLE_RATE)
    kept = [row for row, clip in enumerate(clips) if np.abs(clip[:longest]).max(initial=0.0) > 0]
    cut = [clips[row][:longest] / np.sqrt(np.square(clips[row][:longest]).mean()) for row in kept]
    bank = bank_of(cut, [ids[row] for row in kept])
    return Talkers(bank, bank.names, tuple(speakers[row] for row in kept))


def bank_of(sounds: Sequence[np.ndarray], names: Sequence[str]) -> SoundBank:
    """Makes a bank of float32 waveforms at 16 kHz that differ in length."""
    lengths = np.array([len(sound) for sound in sounds], np.int32)
    padded = np.zeros((len(sounds), int(lengths.max(initial=1))), np.float32)
    for row, sound in zip(padded, sounds, strict=True):
        row[: len(sound)] = sound
    return SoundBank(padded, lengths, tuple(names))


def reverberation_time(response: Float32[np.ndarray, "R"]) -> float:
    """Estimates RT60 from the decay of -5 to -25 dB after the direct sound (T20; ISO 3382-1, Schroeder 1965).

    Args:
      response: impulse response at 16 kHz.

    Returns:
      Time of a decay by 60 dB (s); 0 if the response ends before it has decayed.
    """
    tail = response[int(np.abs(response).argmax()) :].astype(np.float64)
    energy = np.square(tail)[::-1].cumsum()[::-1]
    decay = 10 * np.log10(np.maximum(energy / energy[0], 1e-12))
    fitted = np.flatnonzero((decay <= -5) & (decay >= -25))
    if len(fitted) < 2 or decay.min() > -25:
        return 0.0
    slope = np.polyfit(fitted / SAMPLE_RATE, decay[fitted], 1)[0]
    return float(-60 / slope)


def environment_file(folder: Path) -> Callable[[str], bool]:
    """Selects environment noises of a folder: `noise/` of MUSAN, the noises of RIRS_NOISES, all files of others."""
    if (folder / "noise").is_dir() and ((folder / "music").is_dir() or (folder / "speech").is_dir()):
        return lambda name: PurePosixPath(name).parts[0] == "noise"
    if _is_rirs_noises(folder):
        return lambda name: PurePosixPath(name).parts[0] == "pointsource_noises" or _is_isotropic_noise(name)
    return lambda name: True


def music_file(folder: Path) -> Callable[[str], bool]:
    """Selects music of a folder: `music/` of MUSAN, all files of others."""
    if (folder / "music").is_dir():
        return lambda name: PurePosixPath(name).parts[0] == "music"
    return lambda name: True


def room_file(folder: Path) -> Callable[[str], bool]:
    """Selects impulse responses of a folder: those of RIRS_NOISES, without its noises; all files of others."""
    if _is_rirs_noises(folder):
        return lambda name: PurePosixPath(name).parts[0] != "pointsource_noises" and not _is_isotropic_noise(name)
    return lambda name: True


def digest_of(bank: SoundBank) -> str:
    """Digest of the sounds of a bank."""
    digest = hashlib.sha256("\0".join(bank.names).encode())
    digest.update(np.ascontiguousarray(bank.sounds).tobytes())
    return digest.hexdigest()[:16]


def _is_rirs_noises(folder: Path) -> bool:
    return (folder / "simulated_rirs").is_dir() or (folder / "real_rirs_isotropic_noises").is_dir()


def _is_isotropic_noise(name: str) -> bool:
    path = PurePosixPath(name)
    return path.parts[0] == "real_rirs_isotropic_noises" and "noise" in path.name


def _noises(config: RobustnessGridConfig, folder: str, choose: Callable[[Path], Callable[[str], bool]]) -> SoundBank:
    wanted = choose(Path(folder).expanduser()) if folder else lambda name: True
    part, noise = (None if config.all_files and folder else "evaluation"), config.noise
    return _checked(noise_bank, config, folder, part, noise.files, noise.seconds, config.seed, wanted)


def _rooms(config: RobustnessGridConfig) -> tuple[SoundBank, tuple[float, ...]]:
    rooms = config.rooms
    wanted = room_file(Path(rooms.folder).expanduser()) if rooms.folder else lambda name: True
    part = None if config.all_files else "evaluation"
    bank = _checked(room_bank, config, rooms.folder, part, rooms.count, rooms.seconds, config.seed, wanted)
    times = [
        reverberation_time(sound[:length]) for sound, length in zip(bank.sounds, bank.lengths.tolist(), strict=True)
    ]
    order = np.argsort(times, kind="stable")
    names = tuple(bank.names[row] for row in order)
    return SoundBank(bank.sounds[order], bank.lengths[order], names), tuple(times[row] for row in order)


def _checked(load: Callable[..., SoundBank], config: RobustnessGridConfig, *arguments: object) -> SoundBank:
    try:
        return load(*arguments)
    except ConfigError as error:
        if "for evaluation" in str(error) and not config.all_files:
            raise ConfigError(
                f"{error}, which are a fifth of the files; config.all_files=True uses all, if no model was trained "
                "with them"
            ) from error
        raise


def _by_turns(speakers: Sequence[str], seed: int) -> list[int]:
    """Rows in random order: one of every speaker, then a second one, and so on."""
    seen: dict[str, int] = {}
    turns = []
    for row in np.random.default_rng(seed).permutation(len(speakers)).tolist():
        turn = seen[speakers[row]] = seen.get(speakers[row], 0) + 1
        turns.append((turn, row))
    return [row for _, row in sorted(turns, key=lambda pair: pair[0])]
