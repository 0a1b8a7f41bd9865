"""What messaging says of its HTTP side, for /openapi.json."""

from typing import Final

from nova_services.messaging.forms import (
    After,
    Conversation,
    Conversations,
    Message,
    Messages,
    NewConversation,
    NewMessage,
)
from nova_services.openapi import Api, Operation, Paging, Problem

API: Final = Api(
    "messaging",
    "Conversations. People chat over the WebSocket /chat; this is what else there is to ask.",
    (
        Operation(
            "POST", "/conversations", "Begin one.", {201: Conversation, 403: Problem}, body=NewConversation, viewer=True
        ),
        Operation("GET", "/conversations", "One's own, newest first.", {200: Conversations}, query=Paging, viewer=True),
        Operation(
            "GET",
            "/conversations/{id}/messages",
            "Messages, oldest first.",
            {200: Messages, 404: Problem},
            query=After,
            viewer=True,
        ),
        Operation(
            "POST",
            "/conversations/{id}/messages",
            "Send a message; 200 where it was sent before.",
            {200: Message, 201: Message, 403: Problem, 404: Problem},
            body=NewMessage,
            viewer=True,
        ),
    ),
    beside=("/chat",),
)
