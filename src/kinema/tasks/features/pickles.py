"""Folders of features exchanged with Video-ChatGPT and its Breakfast fork: pickles and ours."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.errors import UsageError
from kinema.files import FEATURES_SUFFIX, whole_file
from kinema.models.videolm.features import FeaturesHeader, load_features, save_features
from kinema.models.videolm.kinds import KINDS
from kinema.models.videolm.pickles import read_pickle
from kinema.tasks.features.job import INDEX
from kinema.textfiles import read_json_lines
from kinema.types import FeatureKind

IN_PLACE = "{folder}/{video}"
"""The name of a file that stays where it is, but for its ending."""
_TEMPORAL_ROWS = 100
_PICKLE_PROTOCOL = 4
_TOWER = re.compile(r"\S+ (\d+) (\d+)x(\d+)")


def convert_folder(
    source: Path, target: Path, *, kind: FeatureKind | None, tower: str, name: str = IN_PLACE
) -> int:
    """Turn a folder of pickles into features files, or the other way round.

    Returns:
        How many files were written.

    Raises:
        UsageError: the folder holds neither, or both.
    """
    pickles = sorted(source.rglob("*.pkl"))
    files = sorted(source.rglob(f"*{FEATURES_SUFFIX}"))
    if bool(pickles) == bool(files):
        what = "both .pkl and features files" if pickles else "neither .pkl nor features files"
        raise UsageError(f"{source} holds {what}.", hint="Give a folder of one of them.")
    for path in pickles:
        _to_features(path, target / path.relative_to(source), kind, tower)
    _to_pickles(source, files, target, name)
    return len(pickles) + len(files)


def pickle_beside(folder: Path, *, name: str) -> None:
    """Write the pickles of a folder of features files into it; those that are there stay.

    Args:
        folder: what ``kinema features`` filled.
        name: what a pickle is called: fields of --pattern, {folder} and {video}.

    Raises:
        UsageError: the name is that of several videos.
    """
    _to_pickles(folder, sorted(folder.rglob(f"*{FEATURES_SUFFIX}")), folder, name, keep=True)


def _to_pickles(
    source: Path, files: Sequence[Path], target: Path, name: str, *, keep: bool = False
) -> None:
    fields = _fields(source) if files else {}
    names = [path.relative_to(source).as_posix() for path in files]
    targets = {_name(name, written, fields.get(written, {})): written for written in names}
    if len(targets) < len(names):
        raise UsageError(
            f"--name {name} calls several videos the same.", hint="Add a field: {video}_{camera}"
        )
    for made, written in targets.items():
        path = target / f"{made}.pkl"
        is_new = not path.is_file() or path.stat().st_mtime < (source / written).stat().st_mtime
        if is_new or not keep:
            _to_pickle(source / written, path)


def _to_features(path: Path, target: Path, kind: FeatureKind | None, tower: str) -> None:
    rows = read_pickle(path)
    spatial = _spatial_rows(tower, width=rows.shape[-1])
    kind = kind or _kind_of(rows, spatial)
    rows = rows if rows.ndim == 3 else rows[:, None]
    row = KINDS[kind]
    header = FeaturesHeader(
        tower=tower,
        select_layers=(row.layer,) if row.layer is not None else tuple(range(rows.shape[1])),
        select_feature=row.select_feature,
        post_layernorm=row.post_layernorm,
        pooling=row.pooling,
        num_frames=_num_frames(rows, kind, spatial),
        source=path.stem,
    )
    target = target.with_suffix(FEATURES_SUFFIX)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_features(target, torch.from_numpy(np.ascontiguousarray(rows)), header)


def _spatial_rows(tower: str, *, width: int) -> int:
    """Patches of a frame, out of ``clip_vision_model 1024 16x16``.

    Raises:
        UsageError: that is no description of a tower, or of one with another width.
    """
    match = _TOWER.fullmatch(tower)
    if match is None or int(match[1]) != width:
        raise UsageError(
            f"--tower is {tower!r} and the rows are {width} wide.",
            hint="Write kind, width and grid: clip_vision_model 1024 16x16",
        )
    return int(match[2]) * int(match[3])


def _kind_of(rows: NDArray[Any], spatial: int) -> FeatureKind:
    """What the shape says; pickles say nothing else about themselves."""
    if rows.ndim == 3:
        return "layers"
    if len(rows) == _TEMPORAL_ROWS + spatial:
        return "spatio_temporal"
    if len(rows) % spatial:
        return "cls"
    raise UsageError(
        f"{len(rows)} rows can be more than one kind.",
        hint=f"Say which: --kind {', '.join(get_args(FeatureKind))}.",
    )


def _num_frames(rows: NDArray[Any], kind: FeatureKind, spatial: int) -> int:
    if kind == "patches":
        return len(rows) // spatial
    if kind != "spatio_temporal":
        return len(rows)
    # Rows of absent frames are zero.
    temporal = rows[: max(1, len(rows) - spatial)]
    return max(1, int(temporal.any(axis=(1, 2)).sum()))


def _to_pickle(path: Path, target: Path) -> None:
    rows, header = load_features(path)
    array = rows.to(torch.float16).numpy()
    target.parent.mkdir(parents=True, exist_ok=True)
    array = array[:, 0] if len(header.select_layers) == 1 else array
    with whole_file(target) as draft, draft.open("wb") as file:
        pickle.dump(array, file, protocol=_PICKLE_PROTOCOL)


def _fields(source: Path) -> dict[str, dict[str, str]]:
    """The fields that a pattern found, by features file, out of the folder's list."""
    index = source / INDEX
    if not index.is_file():
        return {}
    records = [row.value for row in read_json_lines(index)]
    return {
        file: {**record["fields"], "variant": variant}
        for record in records
        for variant, file in record.get("features", {}).items()
    }


def _name(template: str, written: str, fields: Mapping[str, str]) -> str:
    """What the fork calls a video: ``{video}_{camera}``; the variant goes behind the video."""
    path = Path(written).with_suffix("")
    variant = fields.get("variant", "")
    video = Path(path.name.removesuffix(f".{variant}") if variant else path.name).stem
    named = {**fields, "video": f"{video}_{variant}" if variant else video}
    named |= {"folder": path.parent.as_posix()}
    try:
        return template.format_map(named)
    except (KeyError, ValueError, IndexError) as problem:
        raise UsageError(
            f"--name {template} asks for {problem}.", hint=f"Known are: {', '.join(named)}."
        ) from None
