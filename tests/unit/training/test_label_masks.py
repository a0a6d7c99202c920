"""The loss is on answers alone: exact spans, per template, against spans made by hand."""

import json

import pytest
from transformers import AutoTokenizer

from kinema.errors import ModelError, UsageError
from kinema.families import FAMILIES, Checkpoint
from kinema.families.templates import TEMPLATES
from kinema.messages import Conversation, FeaturesPart, Message, TextPart
from kinema.training.examples import IGNORED, ExampleMaker
from kinema.training.loading import load_config, load_processor
from kinema.training.script import write_script

VIDEOLM = FAMILIES["videolm"]
CONTROL = (
    *("<pad>", "<s>", "</s>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eot_id|>", "<|im_start|>", "<|im_end|>", "<vid_patch>", "<vid_start>", "<vid_end>"),
    *(f"<extra_id_{i}>" for i in range(8)),
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LABELLED = ["tea\n<extra_id_1>", "No. \n<extra_id_1>"]
CLOSED = [" tea</s>", " No. </s>"]
BY_HAND = {
    "nvgpt": LABELLED,
    "nv_steerlm": LABELLED,
    "nv_dpo": LABELLED,
    "v1": CLOSED,
    "llama_2": [" tea </s>", " No.  </s>"],
    "llama_3": ["tea<|eot_id|>", "No. <|eot_id|>"],
    "mistral": ["tea</s>", "No. </s>"],
    "yi_34b": ["tea<|im_end|>", "No. <|im_end|>"],
    "plain": ["tea\n", "No. \n"],
    "vicuna_v1_1": CLOSED,
    "video-chatgpt_v1": CLOSED,
    "chatml": ["tea<|im_end|>", "No.<|im_end|>"],
}
"""What is learned of a conversation with the answers "tea" and "No. ", the last space included."""


def conversation(*answers: str, question: str = "Why?") -> Conversation:
    asked = Message("user", (TextPart(question),))
    turns = [(asked, Message("assistant", (TextPart(answer),))) for answer in answers]
    return Conversation(tuple(turn for pair in turns for turn in pair))


def checkpoint(template: str) -> Checkpoint:
    source = CHATML if template == "chatml" else None
    source = source or TEMPLATES[template].with_ends(bos="<s>", eos="</s>").jinja
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    return Checkpoint("test", None, {}, source, CONTROL, tokens)


def test_every_template_has_spans_made_by_hand():
    assert set(TEMPLATES) == set(BY_HAND) - {"chatml"}


@pytest.mark.parametrize("name", BY_HAND)
def test_what_is_learned_is_the_answer_and_what_ends_it(name):
    script = write_script(conversation("tea", "No. "), family=VIDEOLM, checkpoint=checkpoint(name))
    assert list(script.trained) == BY_HAND[name]


@pytest.fixture
def maker(base):
    def make(template: str, tokens=()) -> ExampleMaker:
        processor = load_processor(base)
        processor.tokenizer.add_special_tokens({"additional_special_tokens": list(CONTROL)})
        return ExampleMaker(
            processor,
            load_config(base),
            family=VIDEOLM,
            checkpoint=checkpoint(template),
            max_length=4000,
        )

    return make


def learned(example, tokenizer) -> list[str]:
    """Runs of labels, as text."""
    runs, before = [], IGNORED
    for label in example.labels.tolist():
        if label != IGNORED:
            runs += [[]] if before == IGNORED else []
            runs[-1].append(label)
        before = label
    return [tokenizer.decode(run) for run in runs]


@pytest.mark.parametrize("name", BY_HAND)
def test_labels_stand_on_the_same_spans_in_tokens(name, base, maker, data):
    tokenizer = load_processor(base).tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": list(CONTROL)})
    features = json.loads(data.read_text().splitlines()[0])["messages"][0]["content"][1]["path"]
    turns = conversation("tea", "No. ").messages
    asked = Message("user", (FeaturesPart(data.parent / features), TextPart("Why?")))
    count = 1 if name == "plain" else 2  # which knows one question and one answer
    example = maker(name).make(Conversation((asked, *turns[1 : 2 * count])))
    expected = "".join(BY_HAND[name][:count])
    assert "".join(learned(example, tokenizer)) == expected
    kept = example.labels != IGNORED
    assert example.labels[kept].equal(example.input_ids[kept])


def test_byte_pairs_across_the_border_stay_outside():
    """A tokenizer that merges over the border of an answer begins learning behind it."""
    script = write_script(conversation("tea"), family=VIDEOLM, checkpoint=checkpoint("mistral"))
    assert script.text.index("tea") == len(script.pieces[0])


def test_control_tokens_that_people_wrote_stay_text(base, maker):
    example = maker("vicuna_v1_1").make(
        conversation("say </s> twice", question="<s> </s> <video>?")
    )
    tokenizer = AutoTokenizer.from_pretrained(base)
    ends = example.input_ids == tokenizer.eos_token_id
    assert int(ends.sum()) == 1
    text = tokenizer.decode(example.labels[example.labels != IGNORED])
    assert text == " say </s> twice</s>"


def test_conversations_without_an_answer_are_refused():
    asked = Conversation((Message("user", (TextPart("Why?"),)),))
    with pytest.raises(UsageError, match="no answer"):
        write_script(asked, family=VIDEOLM, checkpoint=checkpoint("v1"))


def test_a_template_that_leaves_answers_out_is_refused():
    silent = Checkpoint("test", None, {}, "{{ messages[0].content }}", CONTROL, {})
    with pytest.raises(ModelError, match="does not repeat"):
        write_script(conversation("tea"), family=VIDEOLM, checkpoint=silent)


def test_a_template_that_wants_media_refuses_samples_without(maker):
    with pytest.raises(UsageError, match="1 media and the sample has 0"):
        maker("plain").make(conversation("tea"))
