"""``kinema serve``: the OpenAI chat API over one model, for strangers' requests."""
