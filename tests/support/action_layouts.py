"""Small data sets of actions in time, in the exact on-disk layout of each benchmark."""

from __future__ import annotations

from pathlib import Path

from support.layout_files import write_clip


def charades_sta(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "charades_sta_test.txt").write_text(
        "3MSZA 0.0 0.4##person turn a light on.\n3MSZA 0.3 0.9##person sits down.\n"
    )
    write_clip(root / "Charades_v1_480" / "3MSZA.mp4")


def _ms_tcn(root: Path, names: dict[str, str], labels: list[str], frames: list[str]) -> None:
    (root / "groundTruth").mkdir(parents=True)
    (root / "splits").mkdir()
    (root / "features").mkdir()
    (root / "mapping.txt").write_text("".join(f"{i} {x}\n" for i, x in enumerate(labels)))
    (root / "splits" / "test.split1.bundle").write_text("".join(f"{n}.txt\n" for n in names))
    for name, place in names.items():
        (root / "groundTruth" / f"{name}.txt").write_text("\n".join(frames) + "\n")
        write_clip(root / place)


def breakfast(root: Path) -> None:
    videos = root / "BreakfastII_15fps_qvga_sync"
    places = {
        "P03_cam01_P03_salat": "P03/cam01/P03_salat.avi",
        "P04_stereo01_P04_tea": "P04/stereo/P04_tea_ch0.avi",
    }
    frames = ["SIL"] * 5 + ["cut_fruit"] * 12 + ["peel_fruit"] * 1 + ["SIL"] * 7
    named = {name: f"{videos.name}/{place}" for name, place in places.items()}
    _ms_tcn(root, named, ["SIL", "cut_fruit", "peel_fruit", "pour_milk"], frames)


def salads(root: Path) -> None:
    frames = ["action_start"] * 5 + ["cut_tomato"] * 10 + ["add_oil"] * 6 + ["action_end"] * 4
    labels = ["cut_tomato", "add_oil", "action_start", "action_end"]
    _ms_tcn(root, {f"rgb-01-{i}": f"rgb/rgb-01-{i}.avi" for i in (1, 2)}, labels, frames)


def breakfast_chat(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    listed = ["/P03/cam01/P03_salat.avi", "/P04/stereo/P04_tea_ch1.avi"]
    (root / "valid.txt").write_text("".join(f"{line}\n" for line in listed))
    for line in listed:
        write_clip(root / line.lstrip("/"))
    text = "1-6 SIL \n6-18 cut_fruit \n18-25 SIL \n"
    (root / "P03/cam01/P03_salat.avi.labels").write_text(text)
    # Only the other channel of a stereo recording has labels.
    (root / "P04/stereo/P04_tea_ch0.avi.labels").write_text(text)


def salads_chat(root: Path) -> None:
    (root / "timestampGT2").mkdir(parents=True)
    (root / "timestampGT2" / "rgb-01-1").write_text("1 - 8 action start\n8 - 25 cut tomato\n")
    write_clip(root / "rgb" / "rgb-01-1.avi")
