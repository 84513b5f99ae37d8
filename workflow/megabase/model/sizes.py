"""Widths and depths of the network. A preset changes these numbers, never the code path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from megabase.spec import OUTPUTS, OutputType

N_DOWNSAMPLE = 6  # residual stages below 1 bp; with the first pooling they make 2**7 = 128 bp tokens
WIDTH = 5  # positions that a residual convolution sees
STEM_WIDTH = 15  # bases that the first convolution sees
RESOLUTIONS = tuple(2**i for i in range(N_DOWNSAMPLE + 2))  # at which a decoder may stop

# Padded channel counts of the published model's heads.
PUBLISHED_CHANNELS: dict[OutputType, int] = {
    OutputType.RNA_SEQ: 768,
    OutputType.CAGE: 640,
    OutputType.PROCAP: 128,
    OutputType.DNASE: 384,
    OutputType.ATAC: 256,
    OutputType.CHIP_HISTONE: 1152,
    OutputType.CHIP_TF: 1664,
    OutputType.CONTACT_MAPS: 28,
    OutputType.SPLICE_SITES: 5,
    OutputType.SPLICE_SITE_USAGE: 734,
    OutputType.SPLICE_JUNCTIONS: 734,
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """All sizes of one network; the defaults are those of the published model (AlphaGenome, Methods).

    channels: head channels by `OutputType` value; a head that is absent or 0 is not built. Splice
    junctions have one channel a biosample and strand (an even number, + half first).
    rope_max_position and pair_mask_tokens are constants of the position features, whatever the window.
    resolution: bases a position of the decoder's finest level stands for, a power of 2 up to 128. Finer
    levels are not built, and predictions at 1 bp are constant in bins of so many bases (published: 1).
    """

    channels: Mapping[str, int] = field(default_factory=dict)
    n_organisms: int = 2
    channels_1bp: int = 768
    channels_step: int = 128  # more channels at every halving of the resolution
    tower_blocks: int = 9
    attention_heads: int = 8
    query_channels: int = 128
    value_channels: int = 192
    mlp_ratio: int = 2
    pair_channels: int = 128
    pair_heads: int = 32
    pair_query_channels: int = 128
    pair_mlp_ratio: int = 2
    pair_position_features: int = 64
    pair_mask_tokens: int = 512
    rope_max_position: int = 8192
    embedding_ratio: int = 2  # output embeddings are this many times as wide as what they embed
    junction_hidden: int = 768
    junction_max_position: int = 1 << 20
    max_sites: int = 512
    site_threshold: float = 0.1  # least probability of a splice site that the junction head looks at
    dropout: float = 0.3
    resolution: int = 1
    spread: bool = False  # whether there is a variance output, which is not published (model/spread.py)

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have; every message names the size."""
        names = {str(o) for o in OutputType}
        unknown = sorted(set(map(str, self.channels)) - names)
        if unknown:
            raise ValueError(f"channels: unknown output types {unknown}; known are {sorted(names)}")
        object.__setattr__(self, "channels", {str(k): int(v) for k, v in self.channels.items()})
        for item in fields(self):
            value = getattr(self, item.name)
            if (
                item.name not in ("channels", "dropout", "site_threshold", "channels_step", "spread")
                and value < 1
            ):
                raise ValueError(f"{item.name} is {value}; it must be at least 1")
        if self.resolution not in RESOLUTIONS:
            raise ValueError(f"resolution is {self.resolution}; it must be one of {list(RESOLUTIONS)}")
        for name in ("query_channels", "junction_hidden", "pair_position_features"):
            if getattr(self, name) % 2:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be even")
        if self.channels.get(OutputType.SPLICE_JUNCTIONS, 0) % 2:
            raise ValueError("channels of splice_junctions must be even: biosamples on +, then on -")
        if self.channels.get(OutputType.SPLICE_SITES, 0) not in (0, 5):
            raise ValueError("channels of splice_sites must be 5: donor+, acceptor+, donor-, acceptor-, none")

    @property
    def trunk(self) -> int:
        """Channels of a 128-bp token."""
        return self.channels_1bp + N_DOWNSAMPLE * self.channels_step

    @property
    def embedding_1bp(self) -> int:
        """Channels of the 1-bp output embedding."""
        return self.embedding_ratio * self.channels_1bp

    @property
    def embedding_128bp(self) -> int:
        """Channels of the 128-bp output embedding."""
        return self.embedding_ratio * self.trunk

    def stage_channels(self, stage: int) -> int:
        """Channels at 2**stage bp, stage 0 (1 bp) to N_DOWNSAMPLE (64 bp)."""
        return self.channels_1bp + stage * self.channels_step

    @property
    def decoder_blocks(self) -> int:
        """Levels of the decoder: 7 down to 1 bp, none where the tokens are the finest level."""
        return len(RESOLUTIONS) - 1 - RESOLUTIONS.index(self.resolution)

    @property
    def finest_channels(self) -> int:
        """Channels of the finest level, which the 1-bp output embedding is made from."""
        return self.stage_channels(min(RESOLUTIONS.index(self.resolution), N_DOWNSAMPLE))

    def outputs(self) -> list[OutputType]:
        """Output types that have a head, in vocabulary order."""
        return [o for o in OUTPUTS if self.channels.get(o, 0) > 0]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready sizes; `Sizes(**sizes.as_dict())` is the same object.

        What is not published is told where it is: cards from before there was any stay the same.
        """
        own = {"resolution": 1, "spread": False}
        found = asdict(self) | {"channels": dict(self.channels)}
        return {name: value for name, value in found.items() if name not in own or value != own[name]}

    @classmethod
    def preset(cls, name: str, channels: Mapping[str, int] | None = None, **overrides: float | int) -> Sizes:
        """Sizes by name, with single sizes changed by `overrides`.

        name: `tiny` (two CPU cores, minutes), `small` (one GPU, a day) or `alphagenome` (the published
        network). channels: head channels by output type; by default the published ones for
        `alphagenome`, none otherwise.
        """
        if name not in PRESETS:
            raise ValueError(f"preset '{name}' is unknown; presets are {sorted(PRESETS)}")
        known = {item.name for item in fields(cls)} - {"spread"}  # a student's, by its settings
        wrong = sorted(set(overrides) - known)
        if wrong:
            raise ValueError(f"sizes {wrong} are unknown; sizes are {sorted(known - {'channels'})}")
        if channels is None:
            channels = PUBLISHED_CHANNELS if name == "alphagenome" else {}
        return cls(**{**PRESETS[name], **overrides, "channels": channels})


PRESETS: dict[str, dict[str, float | int]] = {
    "alphagenome": {},
    "small": {
        "channels_1bp": 192, "channels_step": 32, "tower_blocks": 6, "attention_heads": 8,
        "query_channels": 64, "value_channels": 64, "pair_channels": 64, "pair_heads": 16,
        "pair_query_channels": 64, "junction_hidden": 256,
    },
    "tiny": {
        "channels_1bp": 16, "channels_step": 12, "tower_blocks": 3, "attention_heads": 4,
        "query_channels": 16, "value_channels": 24, "pair_channels": 16, "pair_heads": 4,
        "pair_query_channels": 16, "junction_hidden": 48, "max_sites": 64, "dropout": 0.1,
    },
}  # fmt: skip
