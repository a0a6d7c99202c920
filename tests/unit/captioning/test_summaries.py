"""Summaries: nothing overflows, every sentence says where it comes from."""

import asyncio
import re
from dataclasses import dataclass

import pytest

from kinema.captioning.chapters import group
from kinema.captioning.prompts import Prompts
from kinema.captioning.records import Caption
from kinema.captioning.summary import Budget, Summariser
from kinema.captioning.text import cited_sentences
from kinema.captioning.titles import title_of
from kinema.errors import EngineDied, RequestFailed, RequestRefused, UnknownName, UsageError


def captions(count, text="thing{i} moves here"):
    return [
        Caption(
            index=i,
            start_seconds=4.0 * i,
            end_seconds=4.0 * i + 4,
            text=text.format(i=i),
            frame_indices=(i,),
            frame_seconds=(4.0 * i,),
        )
        for i in range(count)
    ]


@dataclass(frozen=True)
class Asked:
    kind: str
    text: str


@dataclass(frozen=True)
class Said:
    text: str
    finish_reason: str = "stop"


async def count_words(text):
    return len(text.split())


def budget(context, *, max_new_tokens=20):
    return asyncio.run(
        Budget.of(context, count_words, Prompts.chosen(), max_new_tokens=max_new_tokens)
    )


def summarise(
    notes, reply, *, context=None, by_model=True, chapter_seconds=40.0, finish_reason="stop"
):
    """The outline of some captions, and every question that was asked."""
    asked = []

    async def ask(kind, text):
        asked.append(Asked(kind, text))
        return Said(reply(asked[-1]), finish_reason)

    room = budget(context) if by_model else None
    summariser = Summariser(Prompts.chosen(), ask, room, chapter_seconds)
    return asyncio.run(summariser.outline(notes)), asked


def first_and_last(call):
    """Names the first and the last thing of the notes, citing them."""
    if call.kind == "entitle":
        return '"Two things"'
    things = re.findall(r"\[(\d+)\] \S+ .*?(thing\d+)", call.text)
    (a, first), (b, last) = things[0], things[-1]
    return f"It begins with {first} [{a}]. It ends with {last}. [{b}]"


def test_one_chapter_takes_one_summary_and_one_title():
    outline, asked = summarise(captions(5), first_and_last)
    assert [call.kind for call in asked] == ["summarise", "entitle"]
    assert outline.title == "Two things"
    assert [(s.text, s.sources) for s in outline.summary] == [
        ("It begins with thing0.", (0,)),
        ("It ends with thing4.", (4,)),
    ]
    assert len(outline.chapters) == 1


def test_chapters_cover_every_caption_and_have_titles_and_times():
    outline, _ = summarise(captions(50), first_and_last)
    covered = [i for chapter in outline.chapters for i in chapter.captions]
    assert covered == list(range(50))
    assert outline.chapters[0].start_seconds == 0.0
    assert outline.chapters[-1].end_seconds == 200.0
    assert len(outline.chapters) >= 4
    assert all(chapter.title == "Two things" for chapter in outline.chapters)


def test_sentences_of_the_video_go_back_to_single_captions_through_chapters():
    outline, _ = summarise(captions(50), first_and_last)
    first, last = outline.summary
    assert first.sources == (0,)
    texts = {c.index: c.text for c in captions(50)}
    named = re.search(r"thing\d+", last.text)[0]
    assert any(named in texts[i] for i in last.sources)


@pytest.mark.parametrize("count", [2, 30, 400])
def test_no_call_ever_overflows_the_context(count):
    context = 260
    said = "thing{i} " + "word " * 19  # captions of the full length
    outline, asked = summarise(
        captions(count, said),
        lambda call: "thing0 " + "word " * 19,
        context=context,
        chapter_seconds=1e9,
    )
    assert max(len(call.text.split()) for call in asked) + 20 <= context
    assert outline.summary


def test_a_context_that_is_too_short_is_refused_before_any_caption():
    with pytest.raises(UsageError, match="Two captions of 200 tokens") as refused:
        budget(300, max_new_tokens=200)
    least = int(re.search(r"max_new_tokens (\d+)", refused.value.hint)[1])
    assert budget(300, max_new_tokens=least).room >= 2 * least


def failing(problem):
    def reply(call):
        raise problem

    return reply


def test_a_refused_summary_is_an_error_of_this_video():
    with pytest.raises(RequestFailed, match=r"The summary failed: out of luck"):
        summarise(captions(2), failing(RequestRefused("out of luck")))


def test_an_engine_that_dies_at_a_summary_is_no_error_of_this_video():
    with pytest.raises(EngineDied, match="gone"):
        summarise(captions(2), failing(EngineDied("gone")))


def test_sentences_that_cite_nothing_are_matched_by_their_words():
    outline, _ = summarise(
        captions(6),
        lambda call: "In the end thing5 moves. Something else entirely happens.",
    )
    matched, unmatched = outline.summary
    assert 5 in matched.sources
    assert matched.support > unmatched.support == 0.0
    assert unmatched.sources == (0, 1, 2, 3, 4, 5)


def test_extracts_are_sentences_of_captions_with_all_who_hold_them():
    same = [*captions(2), *captions(3, "A dog barks.")[2:]]
    made, asked = summarise(same, first_and_last, by_model=False)
    assert asked == []
    texts = {c.index: c.text for c in same}
    for sentence in made.summary:
        assert sentence.sources
        assert all(sentence.text in texts[i] for i in sentence.sources)


TINY = (
    "The video shows an umbrella from 0.0 to 2.0 s, then a daisy at 4.0 s and from 6.0 to 7.0 s.",
    "There may also be a slug at 4.0 s.",
    "The video shows an umbrella at 8.0 s, followed by a traffic light from 9.0 to 11.0 s.",
)


@pytest.mark.parametrize(
    ("sentences", "title"),
    [
        (TINY, "An umbrella, a daisy and a traffic light"),
        (TINY[:1], "An umbrella and a daisy"),
        (("A dog barks.",), "A dog barks"),
        (
            ("A man opens the door, which creaks, and steps into a long dark hall of mirrors.",),
            "A man opens the door",
        ),
        (("The video shows a lighthouse on a rock.", "The camera pans"), "A lighthouse on a rock"),
        (
            ("In the end everybody who came leaves the house by the same door as before.",),
            "In the end everybody who came leaves the house by the same door as before",
        ),
        ((), ""),
    ],
)
def test_a_title_without_a_model_is_a_whole_phrase_of_what_was_said(sentences, title):
    assert title_of(sentences) == title


def test_a_title_that_the_model_could_not_end_is_not_shown():
    def reply(call):
        return "The story of a thing that" if call.kind == "entitle" else "Thing2 moves. [2]"

    cut, _ = summarise(captions(5), reply, finish_reason="length")
    assert cut.title == cut.chapters[0].title == "Thing2 moves"
    whole, _ = summarise(captions(5), reply)
    assert whole.title == "The story of a thing that"


def test_marks_are_read_wherever_models_put_them():
    assert cited_sentences("A runs [1, 3-5]. B sits. [2] C?") == [
        ("A runs.", (1, 3, 4, 5)),
        ("B sits.", (2,)),
        ("C?", ()),
    ]


def test_chapters_end_where_the_words_change():
    changing = [*captions(10, "a red car drives"), *captions(22, "people cook pasta")[10:]]
    first, second = group(changing, chapter_seconds=44.0)
    assert [c.index for c in first] == list(range(10))
    assert [c.index for c in second] == list(range(10, 22))


def test_own_prompts_take_the_material_with_or_without_a_field():
    own = Prompts.chosen(
        summary_prompt="Sum up {notes} now", title_prompt="Name it", language="German"
    )
    assert own.summarise("N", what="x") == "Sum up N now\n\nAnswer in German."
    assert own.entitle("S", what="x") == "Name it\n\nS\n\nAnswer in German."
    assert "Answer in German." in own.describe(start="0", end="1")
    assert Prompts.chosen(prompt='Give {"a": 1}').describe(start="0", end="1") == 'Give {"a": 1}'
    with pytest.raises(UnknownName):
        Prompts.chosen(style="loud")


def test_a_style_and_a_language_reach_own_prompts_where_they_say_or_at_their_end():
    brief = {"style": "brief", "language": "German"}
    last = Prompts.chosen(prompt="Who is there?", **brief)
    said = "Who is there?\n\nUse one short sentence.\n\nAnswer in German."
    assert last.describe(start="0", end="1") == said
    placed = Prompts.chosen(prompt="{language} {style} Who is there?", **brief)
    said = "Answer in German. Use one short sentence. Who is there?"
    assert placed.describe(start="0", end="1") == said
    assert Prompts.chosen(prompt="Who?").describe(start="0", end="1") == "Who?"
