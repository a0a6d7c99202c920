"""From the body of a chat request to its question: what API and web page do alike."""

from __future__ import annotations

from kinema.server.errors import UnknownModel
from kinema.server.parts import conversation_of, params_of
from kinema.server.schema import ChatRequest
from kinema.server.service import Question, Service


async def read_question(body: ChatRequest, service: Service) -> Question:
    """What the body asks, with its media read.

    Raises:
        UnknownModel: another model than the one that is served.
        UsageError: the body contradicts itself.
        MediaError: a source cannot be used.
    """
    check_model(body.model, service)
    conversation = conversation_of(body, lambda file_id: service.files.get(file_id).path)
    return await service.read(conversation, params_of(body), n=body.n, fit=body.fit)


def check_model(name: str, service: Service) -> None:
    """Refuse a name that this server does not have.

    Raises:
        UnknownModel: it is another one.
    """
    if name not in (service.name, service.model.name):
        raise UnknownModel(
            "This server does not have the model that was asked for.",
            hint=f"It serves {service.name}.",
        )
