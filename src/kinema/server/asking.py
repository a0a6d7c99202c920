"""From the body of a chat request to its question: what API and web page do alike."""

from __future__ import annotations

from kinema.server.backend import Backend, Question
from kinema.server.parts import conversation_of, params_of
from kinema.server.schema import ChatRequest
from kinema.server.service import Service


async def read_question(body: ChatRequest, service: Service) -> tuple[Question, Backend]:
    """What the body asks, with its media read, and the model that is asked.

    Raises:
        UnknownModel: a model that is not served.
        UsageError: the body contradicts itself.
        MediaError: a source cannot be used.
    """
    backend = service.find(body.model)
    conversation = conversation_of(body, lambda file_id: service.files.get(file_id).path)
    params = params_of(body)
    question = await service.read(conversation, params, backend=backend, n=body.n, fit=body.fit)
    return question, backend
