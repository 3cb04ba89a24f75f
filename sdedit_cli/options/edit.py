"""The declaration of every option of an edit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from ..errors import UsageError
from .adapters import (
    EMBEDDING_FILE,
    IP_ADAPTER_FILE,
    LORA_FILE,
    EmbeddingFile,
    IPAdapterFile,
    LoraFile,
    pictures_of,
)
from .colours import COLOUR
from .declared import declare, declared, fit_values, kept, varied, with_hashes, without
from .encoded import check_encoded
from .files import USUAL as _OF_FILES
from .machine import MachineOptions
from .masks import NAMES as _OF_MASKS
from .option import MAX_SEED, Field, Option
from .placement import RESIZES, Placement, check_sizing, enlarged, placement
from .size import MAX_SIDE, SIZE
from .steps import MAX_STEPS, check_falling, check_length, schedule_for
from .strengths import STRENGTH, Strengths, extent_of, rounds_of
from .tile import TILE
from .values import NAME

GROUPS = ("Edit", "Mask", "Sampling", "Model", "Speed", "Machine", "Files")
CURVES = ("karras", "exponential", "beta", "lu_lambdas")
BUILT_IN_NAME = "built-in"
# What is as usual of these is neither kept in pictures nor counted.
_UNSAID = {**_OF_FILES, "color": "off", "backend": "torch", "compile": False, "low_memory": False}
# What each picture of a batch has for itself, and goes together with everything as long as prompts are not encoded.
WORDS = frozenset(("prompt", "negative_prompt", "seed"))
_IN_PICTURE, _PIXELS = attrgetter("in_picture"), attrgetter("pixels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit(MachineOptions):
    """One request to edit a picture. Raises UsageError when a value is out of bounds or no step would run."""

    prompt: str = declare("", "What the picture shall show.", "Edit", short="-p", metavar="TEXT")
    negative_prompt: str = declare("", "What it shall not show.", "Edit", short="-n", metavar="TEXT")
    prompt_embeds: str | None = declare(
        None,
        "Prompts that 'sdedit embed encode' has encoded, in place of -p and -n: no text encoder is needed then.",
        "Edit",
        metavar="FILE",
        path=True,
    )
    strength: float = declare(
        0.8,
        "How far to go from the input: small keeps it, 1 ignores it. That share of the steps is run. Of several rounds"
        " a list such as 0.8,0.6 or a ramp such as 0.8..0.4.",
        "Edit",
        kind=STRENGTH,
        low=0.0,
        high=1.0,
        above=True,
    )
    repeats: int = declare(
        1, "Edit the result again, so many rounds in all, each with new noise.", "Edit", low=1, high=100
    )
    same_noise: bool = declare(False, "Begin each round of --repeats with the noise of the first.", "Edit")
    cfg_scale: float = declare(
        7.5, "How strongly to follow the prompt; 1 and less turn guidance off.", "Edit", low=0.0, high=1000.0
    )
    seed: int | None = declare(
        None,
        "Seed of the noise; equal seeds give equal pictures.",
        "Edit",
        low=0,
        high=MAX_SEED,
        blank="drawn and shown",
    )
    count: int = declare(
        1, "Pictures per input, from seeds that follow each other.", "Edit", low=1, high=10_000, pixels=False
    )
    strokes: int | None = declare(
        None,
        "Have the model see the picture as a painting of so many colours, in broad strokes.",
        "Edit",
        low=2,
        high=64,
        blank="off",
    )
    background: str | None = declare(
        None,
        "What the model sees where the picture is transparent: a colour such as black or '#20242c'.",
        "Edit",
        kind=COLOUR,
        blank="the picture's own edge colours",
    )
    size: str | None = declare(
        None,
        "Bring the picture to this size first (--resize says how); it is written in that size.",
        "Edit",
        kind=SIZE,
        metavar="WxH",
        blank="the input's",
    )
    resize: str | None = declare(
        None,
        "How to bring it to --size: stretched to it, within it, filling it and cut, within it and padded, or without"
        " scaling (which also keeps a model trained small from scaling it).",
        "Edit",
        choices=RESIZES,
        blank="exact",
    )
    max_side: int | None = declare(
        None,
        "Scale a larger picture down first, so that no side is longer; it is written in that size.",
        "Edit",
        low=1,
        high=MAX_SIDE,
        blank="no limit",
    )
    color: str = declare(
        "off",
        "Against colors that drift: keep those of the input (or of its --strokes) place by place, where shapes stay, or"
        " match the whole.",
        "Edit",
        choices=("off", "keep", "match"),
    )
    max_megapixels: float | None = declare(
        None,
        "Scale a larger picture down first, to so many million pixels; it is written in that size.",
        "Edit",
        low=0.0,
        high=1000.0,
        above=True,
        blank="no limit",
        variable="SDEDIT_SCALE_TO_MEGAPIXELS",
    )
    upscale: float | None = declare(
        None,
        "Enlarge the picture so many times before it is edited, after the sizes above; it is written in that size.",
        "Edit",
        low=1.0,
        high=16.0,
        blank="not enlarged",
    )
    upscaler: str | None = declare(
        None,
        "The model that enlarges it for --upscale, such as an ESRGAN: a file that spandrel knows.",
        "Edit",
        metavar="FILE",
        path=True,
        blank="none: Lanczos",
    )
    tile: str | None = declare(
        None,
        "Edit a large picture in tiles of this side that overlap and are blended at every step, at its own size and"
        " in little memory; best the side that the model was trained at.",
        "Edit",
        kind=TILE,
        metavar="SIZE[:OVERLAP]",
        blank="the whole picture at once; a quarter as overlap",
    )
    seamless: str | None = declare(
        None,
        "Let opposite edges of the picture meet, for textures that repeat: along x, y or both.",
        "Edit",
        choices=("x", "y", "xy"),
        blank="edges do not meet",
    )
    steps: int = declare(50, "Steps of the whole schedule.", "Sampling", low=1, high=MAX_STEPS)
    exact_steps: bool = declare(False, "Run just --steps steps at any strength, on a longer schedule.", "Sampling")
    weighting: bool = declare(True, "Read (more:1.2), [less], [a:b:0.5], [a|b] and BREAK in prompts.", "Edit")
    long_prompts: str = declare(
        "truncate", "What to do with a prompt that is too long.", "Edit", choices=("truncate", "chunk")
    )
    sampler: str | None = declare(
        None,
        "Sampler, such as euler, 'DPM++ 2M Karras' or EulerDiscreteScheduler.",
        "Sampling",
        metavar="NAME",
        blank="the model's own",
    )
    schedule: str | None = declare(
        None, "Curve of the noise levels.", "Sampling", choices=CURVES, blank="the sampler's own"
    )
    eta: float = declare(0.0, "Noise that DDIM and TCD add on each step.", "Sampling", low=0.0, high=1.0)
    timesteps: tuple[int, ...] | None = declare(
        None,
        "Timesteps to use in place of --steps, falling, with commas.",
        "Sampling",
        low=0,
        high=100_000,
        metavar="T,T,...",
    )
    sigmas: tuple[float, ...] | None = declare(
        None, "Noise levels to use in place of --steps, falling, with commas.", "Sampling", low=0.0, metavar="S,S,..."
    )
    model: str | None = declare(
        None,
        "Checkpoint: a folder, a file, a name in the model folders, or an id on the Hub.",
        "Model",
        short="-m",
        metavar="MODEL",
        path=True,
        blank="the built-in model",
    )
    vae: str | None = declare(
        None, "Another autoencoder: a folder or file.", "Model", metavar="PATH", path=True, blank="the model's own"
    )
    lora: tuple[LoraFile, ...] = declare(
        (),
        "A LoRA or one of its relatives: a file, folder or name, its strength, and that for the text encoder (which"
        " comes first in tags of prompts).",
        "Model",
        kind=LORA_FILE,
        path=True,
    )
    embedding: tuple[EmbeddingFile, ...] = declare(
        (),
        "A textual inversion: a file or folder, and the word for it where that is not the file's name.",
        "Model",
        kind=EMBEDDING_FILE,
        path=True,
    )
    ip_adapter: tuple[IPAdapterFile, ...] = declare(
        (),
        "An IP-Adapter, which lets a picture speak beside the prompt: a file or folder, and its strength.",
        "Model",
        kind=IP_ADAPTER_FILE,
        path=True,
    )
    ip_image: tuple[str, ...] = declare(
        (),
        "A picture for the IP-Adapter; of several adapters one each.",
        "Model",
        metavar="FILE",
        path=True,
    )
    ip_encoder: str | None = declare(
        None,
        "The image encoder of IP-Adapters: a folder.",
        "Model",
        metavar="FOLDER",
        path=True,
        blank="the model's, else the one beside the adapter",
    )
    config: str | None = declare(
        None,
        "Folder with the configs of a single file whose shapes do not tell everything.",
        "Model",
        metavar="FOLDER",
        path=True,
        variable="SDEDIT_MODEL_CONFIG",
    )
    prediction_type: str | None = declare(
        None,
        "What the UNet predicts, where the checkpoint does not say.",
        "Model",
        choices=("epsilon", "v_prediction", "sample"),
        blank="as the checkpoint says",
    )
    variant: str | None = declare(
        None,
        "Which weights of a model folder to take, such as fp16, where a component has them.",
        "Model",
        kind=NAME,
        metavar="NAME",
        blank="those without a name, else the only ones",
    )
    download: bool = declare(
        False, "Fetch a model that -m names by its Hugging Face Hub id or URL.", "Model", pixels=False
    )
    partial: bool = declare(
        False, "Load what fits of a checkpoint with missing or unknown tensors.", "Model", pixels=False
    )
    clip_skip: int | None = declare(
        None, "Last layers of the text encoder to leave out (web UIs count one more).", "Model", low=0, high=100
    )
    freeu: tuple[float, ...] | None = declare(
        None,
        "FreeU's factors: two for the skips, two for the backbone.",
        "Model",
        low=0.0,
        high=1000.0,
        metavar="S1,S2,B1,B2",
    )
    safety: str = declare(
        "flag",
        "What a checkpoint's safety checker does: nothing, say so, or keep the picture back.",
        "Model",
        choices=("off", "flag", "block"),
        pixels=False,
    )

    def __post_init__(self) -> None:
        fit_values(self)
        self._check_together()

    def varied(self, changes: Mapping[str, Any]) -> Edit:
        """As `dataclasses.replace`; of the values those that change are read and checked, as batches make many edits.

        Raises UsageError.
        """
        alone = self.prompt_embeds is None and changes.keys() <= WORDS
        return varied(self, changes, None if alone else Edit._check_together)

    def _check_together(self) -> None:
        if self.timesteps is not None and self.sigmas is not None:
            raise UsageError("timesteps and sigmas exclude each other; give one of them")
        check_sizing(self)
        if self.prompt_embeds is not None:
            check_encoded(self)
        for key, listed in (("timesteps", self.timesteps), ("sigmas", self.sigmas)):
            check_falling(key, listed or ())
        if self.freeu is not None and len(self.freeu) != 4:
            raise UsageError(
                f"freeu has {len(self.freeu)} numbers; expected four: S1,S2,B1,B2, such as 0.9,0.2,1.3,1.4"
            )
        pictures_of(self.ip_adapter, self.ip_image)
        self.check_files()
        self.check_speed(self.tile)
        if self.exact_steps and (self.timesteps or self.sigmas):
            raise UsageError("exact-steps has no meaning with timesteps or sigmas; give the steps to run alone")
        if isinstance(self.strength, Strengths) or self.repeats > 1:
            self.rounds()  # each is an edit of its own, and says what is wrong with it
            return
        check_length(self.steps, self.strength, self.steps_total(), self.steps_run())

    def steps_total(self) -> int:
        """The length of the whole schedule, of which the strength picks the tail."""
        listed = self.timesteps or self.sigmas
        if listed:
            return len(listed)
        return schedule_for(self.steps, self.strength) if self.exact_steps else self.steps

    def rounds(self) -> tuple[Edit, ...]:
        """The edits of one round that it consists of, each of the result of the last. Raises UsageError."""
        return rounds_of(self)

    def steps_run(self) -> int:
        """How many steps the strength leaves to run, by the reference library's truncation; those of all rounds."""
        if isinstance(self.strength, Strengths) or self.repeats > 1:
            return sum(one.steps_run() for one in self.rounds())
        total = self.steps_total()
        return min(int(total * self.strength), total)

    def extent(self) -> str:
        """How far it goes, for people."""
        return extent_of([one.strength for one in self.rounds()], self.steps_run(), self.steps_total())

    def placement(self, size: tuple[int, int]) -> Placement:
        """How a picture of `size` (width, height) is brought to the size that is asked for, before it is enlarged."""
        return placement(size, self)

    def size_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size (width, height) in which a picture of this one is worked on and written."""
        return enlarged(self.placement(size).frame, self.upscale)

    def seeds(self) -> tuple[int, ...]:
        """One seed a picture, each following the last. `seed` must have been drawn."""
        return seeds_from(self.seed or 0, self.count)

    def saved(self) -> dict[str, Any]:
        """What a picture records of its edit; `edit_from([layer_of(edit.saved(), ...)])` gives it back."""
        return self._kept(_IN_PICTURE)

    def identity(self, hash_of: Callable[[str], str]) -> dict[str, Any]:
        """All that makes the picture what it is, with what `hash_of` says of the content in the place of each path."""
        # Without a token the word is the name of the file, which its content does not tell.
        words = tuple(replace(file, token=file.word) for file in self.embedding)
        worded = self.varied({"embedding": words}) if words else self
        return with_hashes(worded._kept(_PIXELS), Edit, hash_of)

    def _kept(self, which: Callable[[Option], bool]) -> dict[str, Any]:
        said = kept(self, which)
        unused = [name for name, usual in _UNSAID.items() if said.get(name) == usual]
        unused += ("steps", "exact_steps") if self.timesteps or self.sigmas else ()
        unused += ("repeats", "same_noise") if len(self.rounds()) == 1 else ()
        unused += _OF_MASKS if self.mask is None else ()
        return without(said, unused)


def seeds_from(first: int, count: int) -> tuple[int, ...]:
    """So many seeds that follow each other."""
    return (first,) if count == 1 else tuple((first + k) % (MAX_SEED + 1) for k in range(count))


def fields(of: type = Edit) -> tuple[Field, ...]:
    """Every option of an edit (or of another dataclass of options), in the order of its declaration."""
    return declared(of)
