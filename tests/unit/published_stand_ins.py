"""A published checkpoint in small: a tiny network, its arrays in every layout, and its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore

from megabase.model import Sizes
from megabase.predictors.published import import_checkpoint

WINDOW = 4096
WIDTHS = {
    "rna_seq": 4, "atac": 2, "chip_tf": 2, "contact_maps": 2, "splice_sites": 5, "splice_site_usage": 6,
    "splice_junctions": 6,
}  # fmt: skip
# strands of the real channels by organism; the rest is padding
TRACKS = {
    "human": {"rna_seq": "+-.", "atac": ".", "chip_tf": ".", "contact_maps": ".."},
    "mouse": {"rna_seq": "+-", "atac": "", "chip_tf": "..", "contact_maps": "."},
}
BIOSAMPLES = {"human": 3, "mouse": 2}
STRANDS = {"+": "STRAND_POSITIVE", "-": "STRAND_NEGATIVE", ".": "STRAND_UNSTRANDED"}
SIZES = Sizes.preset(
    "tiny", WIDTHS, channels_1bp=4, channels_step=2, tower_blocks=2, attention_heads=2, query_channels=4,
    value_channels=4, pair_channels=4, pair_heads=2, pair_query_channels=4, pair_position_features=8,
    junction_hidden=4, max_sites=8, site_threshold=0.01,
)  # fmt: skip
LAYOUTS = {
    "ocdbt": ("ocdbt", "zarr"), "ocdbt_zarr3": ("ocdbt", "zarr3"), "folders": ("file", "zarr"),
    "folders_zarr3": ("file", "zarr3"),
}  # fmt: skip


def entry(name: str, strand: str | None, mean: float | None = None) -> str:
    """Metadata of one channel as the published files write it."""
    if name == "Padding":
        return f'metadata {{ name: "Padding" {"strand: STRAND_UNSTRANDED" if strand else ""} }}\n'
    return f"""metadata {{
      name: "{name}"{f" strand: {STRANDS[strand]}" if strand else ""}
      ontology_term {{ ontology_type: ONTOLOGY_TYPE_UBERON id: 317 }}
      biosample {{ type: BIOSAMPLE_TYPE_PRIMARY_CELL name: "colon" stage: "adult" }}
      assay: "assay" data_source: "encode"{f" nonzero_mean: {mean}" if mean else ""}
    }}\n"""


def published_text(organism: str) -> str:
    """The metadata file of one of the two organisms."""
    blocks = {}
    for output, strands in TRACKS[organism].items():
        real = [entry(f"{output} {i - (s == '-')}", s, 0.5 + i) for i, s in enumerate(strands)]
        blocks[output] = real + [entry("Padding", ".")] * (WIDTHS[output] - len(real))
    sites = [("donor", "+"), ("acceptor", "+"), ("donor", "-"), ("acceptor", "-"), ("Padding", ".")]
    blocks["splice_sites"] = [entry(*site) for site in sites]
    count = BIOSAMPLES[organism]
    usage = [[entry(f"usage_{i}", s) for i in range(count)] for s in "+-"]
    padding = [entry("Padding", ".")] * (3 - count)
    blocks["splice_site_usage"] = usage[0] + padding + usage[1] + padding
    junctions = [entry(f"junction_{i}", None) for i in range(count)] + [entry("Padding", None)] * (3 - count)
    text = "".join(
        f"output_metadata {{ output_type: OUTPUT_TYPE_{o.upper()}\ntracks {{ {''.join(e)} }} }}\n"
        for o, e in blocks.items()
    )
    kind = "OUTPUT_TYPE_SPLICE_JUNCTIONS"
    return f"{text}output_metadata {{ output_type: {kind} junctions {{ {''.join(junctions)} }} }}\n"


def write_orbax(
    folder: Path,
    trees: tuple[Mapping[str, np.ndarray], ...],
    layout: str,
    keys: tuple[str, ...] = ("0", "1"),
    *,
    zeros: bool = True,
) -> Path:
    """A checkpoint as Orbax writes a tuple of `{module: {name: array}}`, in one of its layouts.

    zeros: whether chunks of zeros are written too.
    """
    store, driver = LAYOUTS[layout]
    folder.mkdir(parents=True)
    context = tensorstore.Context({"file_io_sync": False})
    opened = []
    for key, tree in zip(keys, trees, strict=True):
        for name, array in tree.items():
            module, _, leaf = name.rpartition("/")
            path = f"{key}.{module}.{leaf}/"
            kvstore = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/"}, "path": path}
            if store == "file":
                kvstore = {"driver": "file", "path": f"{folder}/{path}"}
            spec = {"driver": driver, "kvstore": kvstore, "store_data_equal_to_fill_value": zeros}
            chunks = tensorstore.ChunkLayout(write_chunk_shape=[-(-n // 2) for n in array.shape])
            made = tensorstore.open(
                spec, create=True, dtype=array.dtype, shape=array.shape, chunk_layout=chunks,
                fill_value=None if zeros else 0, context=context,
            )  # fmt: skip
            opened.append((made, array))
    for write in [made.result().write(array) for made, array in opened]:
        write.result()
    (folder / "_METADATA").write_text(json.dumps({"store_array_data_equal_to_fill_value": zeros}))
    return folder


def imported(source: Path, output: Path, metadata: Mapping[str, Path], **options: Any) -> Path:
    return import_checkpoint(
        source,
        output,
        metadata=metadata,
        **{"scheme": "all", "sizes": SIZES, "preset": "tiny", "window": WINDOW} | options,
    )


def changed(npz: Path, output: Path, **changes: np.ndarray | None) -> Path:
    """The .npz file with arrays replaced (None: left out); `/` of a name is `__`."""
    with np.load(npz) as archive:
        arrays = dict(archive)
    for name, value in ((k.replace("__", "/"), v) for k, v in changes.items()):
        arrays.pop(name, None)
        arrays |= {} if value is None else {name: value}
    np.savez(output, **arrays)
    return output
