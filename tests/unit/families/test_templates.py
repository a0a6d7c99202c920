"""Templates against the strings that the original systems render."""

import pytest

from kinema.errors import ModelError, UnknownName
from kinema.families import chat_template
from kinema.families.chat_template import render
from kinema.families.templates import TEMPLATES

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
LLAVA = (
    "You are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language."
)
LABELS = (
    "quality:4,toxicity:0,humor:0,creativity:0,helpfulness:4,correctness:4,coherence:4,"
    "complexity:4,verbosity:4"
)
CHATGPT = (
    "You are Video-ChatGPT, a large vision-language assistant. You are able to understand the "
    "video content that the user provides, and assist the user with a variety of tasks using "
    "natural language.Follow the instructions carefully and explain your answers in detail based "
    "on the provided video."
)
NVGPT = f"<extra_id_0>System\n{VICUNA}\n\n<extra_id_1>User\nQ\n<extra_id_1>Assistant\n"
LLAMA_3 = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n" + LLAVA + "<|eot_id|>"
HEADER_3 = "<|start_header_id|>{}<|end_header_id|>\n\n"

PROMPTS = {
    "nvgpt": f"{NVGPT}<extra_id_2>{LABELS}\n",
    "nv_steerlm": f"{NVGPT}<extra_id_2>{LABELS}\n",
    "nv_dpo": "<extra_id_0>System\n\n<extra_id_1>User\nQ\n<extra_id_1>Assistant\n",
    "v1": f"{VICUNA} USER: Q ASSISTANT:",
    "llama_2": f" [INST] <<SYS>>\n{LLAVA}\n<</SYS>>\n\nQ [/INST]",
    "llama_3": f"{LLAMA_3}{HEADER_3.format('user')}Q<|eot_id|>{HEADER_3.format('assistant')}",
    "mistral": "<extra_id_6> [INST] Q [/INST]",
    "yi_34b": "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n",
    "vicuna_v1_1": f"{VICUNA} USER: Q ASSISTANT:",
    "video-chatgpt_v1": f"{CHATGPT} USER: Q ASSISTANT:",
}
TWO_TURNS = {
    "nvgpt": f"{NVGPT}<extra_id_2>{LABELS}\nA\n<extra_id_1>User\nQ2\n<extra_id_1>Assistant\n"
    f"<extra_id_2>{LABELS}\nA2\n<extra_id_1>",
    "nv_dpo": "<extra_id_0>System\n\n<extra_id_1>User\nQ\n<extra_id_1>Assistant\nA\n<extra_id_1>"
    "User\nQ2\n<extra_id_1>Assistant\nA2\n<extra_id_1>",
    "v1": f"{VICUNA} USER: Q ASSISTANT: A<extra_id_7> USER: Q2 ASSISTANT: A2<extra_id_7>",
    "llama_2": f" [INST] <<SYS>>\n{LLAVA}\n<</SYS>>\n\nQ [/INST] A <extra_id_7>"
    "<extra_id_6> [INST] Q2 [/INST] A2 <extra_id_7>",
    "llama_3": PROMPTS["llama_3"]
    + f"A<|eot_id|>{HEADER_3.format('user')}Q2<|eot_id|>{HEADER_3.format('assistant')}A2<|eot_id|>",
    "mistral": "<extra_id_6> [INST] Q [/INST]A<extra_id_7> [INST] Q2 [/INST]A2<extra_id_7>",
    "yi_34b": "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    "<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\nA2<|im_end|>",
    "vicuna_v1_1": f"{VICUNA} USER: Q ASSISTANT: A</s>USER: Q2 ASSISTANT: A2</s>",
    "video-chatgpt_v1": f"{CHATGPT} USER: Q ASSISTANT: A</s>USER: Q2 ASSISTANT: A2</s>",
}


def turns(*words: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": word} for i, word in enumerate(words)]


def write(name: str, messages: list[dict[str, str]], *, prompt: bool) -> str:
    jinja = TEMPLATES[name].jinja
    return render(jinja, messages, special_tokens={}, add_generation_prompt=prompt)


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_is_the_original_bytes(name):
    assert write(name, turns("Q"), prompt=True) == PROMPTS[name]


@pytest.mark.parametrize("name", TWO_TURNS)
def test_a_finished_conversation_is_the_original_bytes(name):
    assert write(name, turns("Q", "A", "Q2", "A2"), prompt=False) == TWO_TURNS[name]


@pytest.mark.parametrize("name", PROMPTS)
def test_a_follow_up_prompt_begins_like_the_finished_conversation(name):
    follow_up = write(name, turns("Q", "A", "Q2"), prompt=True)
    finished = write(name, turns("Q", "A", "Q2", "A2"), prompt=False)
    assert finished.startswith(follow_up.removesuffix("\n"))


def test_plain_keeps_the_medium_alone():
    spoken = turns("<video>\nWhat is this?", "A dog.")
    assert write("plain", spoken, prompt=False) == "<video>A dog.\n"


def test_a_given_system_replaces_the_own_one():
    spoken = [{"role": "system", "content": "Be short."}, *turns("Q")]
    assert write("v1", spoken, prompt=True) == "Be short. USER: Q ASSISTANT:"
    assert write("nv_dpo", spoken, prompt=True).startswith("<extra_id_0>System\nBe short.\n<")


def test_labels_of_a_turn_replace_the_default_and_appear_in_dpo_only_when_given():
    spoken = turns("Q", "A")
    spoken[1]["label"] = "quality:1"
    assert "<extra_id_2>quality:1\nA\n" in write("nvgpt", spoken, prompt=False)
    assert LABELS not in write("nvgpt", spoken, prompt=False)
    assert "Assistant\n<extra_id_2>quality:1\nA\n" in write("nv_dpo", spoken, prompt=False)


def test_an_image_gets_its_line_break_in_prompts_only():
    assert "<image>\n?" in write("v1", turns("<image>?"), prompt=True)
    assert "<image>?" in write("v1", turns("<image>?", "A"), prompt=False)
    assert "Q<video>" in write("v1", turns("Q<video>"), prompt=True)


@pytest.mark.parametrize("name", ["vicuna_v1_1", "video-chatgpt_v1"])
def test_video_chatgpt_is_asked_with_the_video_behind_the_question(name):
    asked = write(name, turns("<video>\nWhat?", "A dog.", "Where?"), prompt=True)
    assert "USER: What?\n<video> ASSISTANT: A dog.</s>USER: Where? ASSISTANT:" in asked
    trained = write(name, turns("<video>\nWhat?", "A dog."), prompt=False)
    assert "USER: <video>\nWhat? ASSISTANT: A dog.</s>" in trained


def test_ends_of_the_tokenizer_replace_their_stand_ins():
    template = TEMPLATES["llama_2"].with_ends(bos="<s>", eos="</s>")
    text = render(
        template.jinja,
        turns("Q", "A", "Q2", "A2"),
        special_tokens={},
        add_generation_prompt=False,
    )
    assert text.endswith(" A </s><s> [INST] Q2 [/INST] A2 </s>")
    assert template.stop == ("</s>",)
    assert TEMPLATES["nvgpt"].with_ends(bos="<s>", eos="</s>").stop[1] == "<extra_id_7>"


def test_every_template_says_what_ends_an_answer():
    for template in TEMPLATES.values():
        assert all(
            stop in template.answer + template.ending + "<extra_id_7>" for stop in template.stop
        )
        assert template.stop


def test_an_unknown_template_is_named():
    with pytest.raises(UnknownName, match="'lama_2'"):
        TEMPLATES["lama_2"]


SAID = [{"role": "user", "content": "why?"}]


def test_loops_in_loops_end_with_an_error(monkeypatch):
    monkeypatch.setattr(chat_template, "_MOST_SECONDS", 0.2)
    body = "{% set seen = 1 %}"
    for name in "abcd":
        body = f"{{% for {name} in range(99999) %}}{body}{{% endfor %}}"
    with pytest.raises(ModelError, match=r"failed: it was not done after 0\.2 seconds"):
        render(body + "{{ messages[0].content }}", SAID, special_tokens={})
    # The next one has all of its time.
    assert render("{% for m in messages %}{{ m.content }}{% endfor %}", SAID, special_tokens={})


@pytest.mark.parametrize(
    "template",
    [
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{% for a in range(10 ** 9) %}{{ a }}{% endfor %}",
        "{{ messages[0].content + 1 }}",
        "{{ 1 / 0 }}",
    ],
)
def test_whatever_a_template_raises_is_named_as_its_failure(template):
    with pytest.raises(ModelError, match="chat template failed"):
        render(template, SAID, special_tokens={})
