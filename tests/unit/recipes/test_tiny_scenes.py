"""The generated scenes of recipes/tiny: what they promise about themselves."""

import json
from random import Random

import numpy as np
import pytest

from art import COLOURS, SHAPES, Shapes
from film import paint
from generate import main
from scenes import DIRECTIONS, SKILLS, Place, Scene, Shot, draw_scene
from table import BARS, most_frequent, table
from words import ask, ask_everything

ART = Shapes()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    main([str(folder), "--clips", "6", "--test", "1", "--seed", "3"])
    return folder


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def moving_star(motion):
    place = Place(x=0.5, y=0.5, size=0.4, tilt_degrees=0)
    shot = Shot(
        name="star",
        style="flat",
        colour="red",
        asks_colour=False,
        places=(place,),
        motion=motion,
        camera="still",
        background=1,
    )
    return Scene(skill="direction", shots=(shot,))


def middle_of_red(picture):
    red, green, _ = np.moveaxis(np.asarray(picture).astype(int), -1, 0)
    y, x = np.nonzero(red - green > 120)
    return x.mean(), y.mean()


@pytest.mark.parametrize("motion", DIRECTIONS)
def test_a_thing_moves_where_the_answer_says(motion):
    scene = moving_star(motion)
    pictures = list(paint(scene, ART))
    (x0, y0), (x1, y1) = middle_of_red(pictures[0]), middle_of_red(pictures[-1])
    shift = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[motion]
    assert np.sign(np.round([(x1 - x0) / 50, (y1 - y0) / 50])).tolist() == list(shift)
    assert ask(Random(0), scene, ART, "direction").answer == motion


def test_the_same_seed_writes_the_same_folder(written, tmp_path):
    main([str(tmp_path), "--clips", "6", "--test", "1", "--seed", "3"])
    for path in (p for p in written.rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / path.relative_to(written)).read_bytes()


def test_every_skill_is_learned_and_asked_and_every_video_is_there(written):
    learned, asked = rows(written / "train.jsonl"), rows(written / "test.jsonl")
    videos = [row["messages"][0]["content"][0]["video_url"]["url"] for row in learned]
    videos += [row["video"] for row in asked]
    assert len(set(videos)) == 6 + 7
    assert all((written / video).is_file() for video in videos)
    assert {row["groups"]["skill"] for row in asked} == set(BARS)


@pytest.mark.parametrize("skill", SKILLS)
def test_training_and_test_share_no_combination(skill):
    drawn = [
        {draw_scene(Random(n), ART, skill, test=test).combination for n in range(200)}
        for test in (False, True)
    ]
    assert drawn[0].isdisjoint(drawn[1]) or drawn[0] == drawn[1] == {()}


def test_training_never_shows_the_unseen_style():
    styles = {
        shot.style
        for n in range(200)
        for shot in draw_scene(Random(n), ART, SKILLS[n % 6], test=False).shots
    }
    assert styles == set(ART.styles)
    assert ART.unseen_style not in styles


def test_presence_is_asked_about_what_is_shown_or_is_not():
    lot = Random(5)
    scene = draw_scene(lot, ART, "presence", test=True)
    for yes, answer in ((True, "yes"), (False, "no")):
        asked = ask(lot, scene, ART, "presence", yes=yes)
        assert asked.answer == answer
        assert (scene.shots[0].name in asked.question) == yes


def test_the_count_is_the_number_of_separate_things():
    scenes = [draw_scene(Random(n), ART, "count", test=False) for n in range(100)]
    assert {len(scene.shots[0].places) for scene in scenes} == {1, 2, 3, 4, 5}
    for places in (scene.shots[0].places for scene in scenes):
        for i, one in enumerate(places):
            assert all(abs(one.x - p.x) + abs(one.y - p.y) > 0.3 for p in places[:i])


def test_questions_change_their_words():
    scene = draw_scene(Random(0), ART, "colour", test=False)
    said = {one.question for n in range(30) for one in ask_everything(Random(n), scene, ART)}
    assert len(said) > 8


@pytest.mark.parametrize("style", [*ART.styles, ART.unseen_style])
def test_a_shape_is_in_its_colour(style):
    for name in SHAPES:
        for colour, value in COLOURS.items():
            pixels = np.asarray(ART.picture(name, style, colour))
            shown = pixels[pixels[..., 3] == 255][:, :3]
            assert (shown == value).all(1).mean() > 0.3


def test_two_shapes_differ_in_every_style():
    for style in (*ART.styles, ART.unseen_style):
        drawn = {ART.picture(name, style, "red").tobytes() for name in SHAPES}
        assert len(drawn) == len(SHAPES)


def test_the_table_sets_the_score_beside_chance_and_blind(written, tmp_path):
    for name, score in (("model", 75.0), ("model+blind", 25.0)):
        found = {skill: {"items": 1, "normalised_match": score} for skill in BARS}
        (tmp_path / name).mkdir()
        text = json.dumps({"tables": {"skill": found}})
        (tmp_path / name / "results.json").write_text(text)
    made = table(written, tmp_path)
    row = made["skills"]["naming, unseen style"]
    assert (row["score"], row["blind"], row["chance"]) == (75.0, 25.0, round(100 / 9, 2))


def test_the_most_frequent_answer_is_counted_by_skill(tmp_path):
    path = tmp_path / "test.jsonl"
    answers = [("count", "two"), ("count", "two"), ("count", "one"), ("colour", "red")]
    lines = [json.dumps({"answers": [a], "groups": {"skill": s}}) for s, a in answers]
    path.write_text("\n".join(lines) + "\n")
    assert most_frequent(path) == {"count": 66.7, "colour": 100.0}


def test_a_moving_thing_is_told_in_the_caption():
    scene = moving_star("up")
    said = [one.answer for n in range(20) for one in ask_everything(Random(n), scene, ART)]
    assert any(text in ("a star moves up.", "a star goes up.") for text in said)
