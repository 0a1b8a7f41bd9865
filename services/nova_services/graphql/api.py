"""What the gateway says of itself beside its schema."""

from nova_services.graphql.asked import Answer, Asked
from nova_services.openapi import Api, Operation, Problem, Raw

SCHEMA_KIND = "application/graphql"
API = Api(
    "graphql",
    "One question for what several services know; /schema.graphql has what can be asked.",
    (
        Operation("POST", "/graphql", "Run an operation.", {200: Answer, 415: Problem}, body=Asked),
        Operation("GET", "/schema.graphql", "Read the schema.", {200: Raw(kinds=(SCHEMA_KIND,))}),
    ),
)
