"""A JSON schema for answers about pictures: a number, a choice, a list."""

SCHEMA = {
    "type": "object",
    "properties": {
        "people": {"type": "integer", "minimum": 0, "maximum": 9},
        "mood": {"enum": ["calm", "tense"]},
        "objects": {"type": "array", "items": {"enum": ["dog", "cat"]}, "maxItems": 2},
    },
    "required": ["people", "mood", "objects"],
    "additionalProperties": False,
}
