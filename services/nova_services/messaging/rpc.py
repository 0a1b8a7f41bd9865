"""messaging over gRPC: MessagesService, for services that write and read messages."""

from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from nova.messages.v1 import messages_pb2, messages_pb2_grpc

from nova_services.bodies import uuid
from nova_services.errors import InvalidError
from nova_services.messaging.conversations import Conversations, Draft, Message
from nova_services.messaging.frames import LONGEST_TEXT
from nova_services.messaging.sending import Sending

DEFAULT_SIZE: Final = 100
LARGEST_SIZE: Final = 500


class MessagesRpc(messages_pb2_grpc.MessagesServiceServicer):
    """See the proto; errors are those of `nova_services.errors`."""

    def __init__(self, conversations: Conversations, sending: Sending) -> None:
        self._conversations = conversations
        self._sending = sending

    def register(self, server: aio.Server) -> None:
        """Add it to a server."""
        messages_pb2_grpc.add_MessagesServiceServicer_to_server(self, server)

    async def SendMessage(  # noqa: N802 - the proto's name
        self, request: messages_pb2.SendMessageRequest, context: Any
    ) -> messages_pb2.SendMessageResponse:
        """Store a message and bring it to who is connected."""
        if not 1 <= len(request.text) <= LONGEST_TEXT or "\0" in request.text:
            raise InvalidError("text", f"1 to {LONGEST_TEXT} characters, none of them NUL")
        draft = Draft(
            uuid("conversation_id", request.conversation_id),
            uuid("sender_id", request.sender_id),
            uuid("client_id", request.client_id),
            request.text,
        )
        sent = await self._sending.send(draft)
        return messages_pb2.SendMessageResponse(message=_told(sent.message))

    async def ListMessages(  # noqa: N802 - the proto's name
        self, request: messages_pb2.ListMessagesRequest, context: Any
    ) -> messages_pb2.ListMessagesResponse:
        """Messages of a conversation after a position."""
        if not 0 <= request.page_size <= LARGEST_SIZE:
            raise InvalidError("page_size", f"1 to {LARGEST_SIZE}, or 0 for {DEFAULT_SIZE}")
        if request.after_position < 0:
            raise InvalidError("after_position", "a position, or 0")
        found = await self._conversations.after(
            uuid("conversation_id", request.conversation_id),
            uuid("reader_id", request.reader_id),
            request.after_position,
            limit=request.page_size or DEFAULT_SIZE,
        )
        return messages_pb2.ListMessagesResponse(messages=map(_told, found))


def _told(message: Message) -> messages_pb2.Message:
    sent = Timestamp()
    sent.FromDatetime(message.sent_at)
    return messages_pb2.Message(
        position=message.position,
        conversation_id=str(message.conversation),
        sender_id=str(message.sender),
        text=message.text,
        sent_at=sent,
    )
