"""The forms that text may have, and each of them in words: who reads an error should not have to read an expression.

``\\Z`` in place of ``$``: in Python ``$`` also matches before a final line feed.
"""

from typing import Final

STATUS: Final = r"^[45](xx|[0-9]{2})\Z"
HEADER: Final = r"^[a-z0-9-]{1,64}\Z"
PATH: Final = r"^/[!-~]*\Z"
PRINTABLE: Final = r"^[ -~]*\Z"
URL: Final = r"^https?://[!-~]+\Z"
BASE64URL: Final = r"^[A-Za-z0-9_-]+\Z"
COOKIE: Final = r"^[a-zA-Z0-9_-]+\Z"
REDIS_URL: Final = r"^(rediss?|redis\+(sentinel|cluster))://[a-zA-Z0-9.:,\[\]-]+(/[a-zA-Z0-9_.-]*){0,2}\Z"
SERVICE: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?\Z"
NAME: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z"
HOST: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z"
HOST_AND_PORT: Final = (
    r"^([a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:.]+\])"
    r":[1-9][0-9]{0,4}\Z"
)
TOPIC_PREFIX: Final = r"^[A-Za-z0-9._-]*\Z"
ADDRESS: Final = r"^[0-9A-Za-z]([0-9A-Za-z._-]*[0-9A-Za-z])?\.?\Z|^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[0-9A-Za-z._-]+)?\Z"
VARIABLE: Final = r"^[ -<>-~]+\Z"
QUANTITY: Final = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?\Z"
DOTTED: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?\Z"
_octet: Final = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_group: Final = "[0-9a-fA-F]{1,4}"
CIDR: Final = (
    rf"^({_octet}(\.{_octet}){{3}}/(3[0-2]|[12]?[0-9])"
    rf"|(::|({_group}:){{1,7}}:|({_group}:){{7}}{_group})/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))\Z"
)
METHOD: Final = r"^[A-Z]+\Z"
CLAIM: Final = r"^[!-~]+\Z"
TENANT: Final = r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?\Z"
TABLE: Final = r"^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?\Z"
IDENTIFIER: Final = r"^[a-z_][a-z0-9_]*\Z"
OPERATION: Final = r"^[_A-Za-z][_0-9A-Za-z]*[*]?\Z"
INDEX_COLUMN: Final = r"^[a-z_][a-z0-9_]*( (asc|desc|ASC|DESC))?\Z"

WORDS: Final = {
    STATUS: "a status from 400 to 599 such as 429, or 4xx or 5xx",
    HEADER: "the name of a header in lower case, such as x-request-id",
    PATH: "a path that begins with / and has no spaces",
    PRINTABLE: "printable ASCII characters",
    URL: "a URL that begins with http:// or https://, and has no spaces",
    BASE64URL: "base64url without padding, as in a JWK",
    COOKIE: "letters, digits, hyphens and underscores",
    REDIS_URL: "a URL such as redis://redis:6379/0, without name and password",
    SERVICE: "lower case letters, digits and hyphens, a letter first and no hyphen last",
    NAME: "lower case letters, digits and hyphens, no hyphen first or last",
    HOST: "a host name in lower case, such as auth-service or auth.shop.svc",
    HOST_AND_PORT: "a host and a port such as kafka:9092",
    TOPIC_PREFIX: "letters, digits, dots, hyphens and underscores",
    ADDRESS: "an IP address or a host name",
    VARIABLE: "printable ASCII characters without =",
    QUANTITY: "a quantity such as 100m, 0.5 or 64Mi",
    DOTTED: "lower case letters, digits, hyphens and dots, as in the name of a Secret",
    CIDR: "a network such as 10.0.0.0/8 or fd00::/8",
    METHOD: "an HTTP method in upper case, such as POST",
    CLAIM: "the name of a claim, such as sub, without spaces",
    TABLE: "a table such as posts or shop.posts, in lower case",
    IDENTIFIER: "lower case letters, digits and underscores, no digit first",
    OPERATION: "the name of a GraphQL operation, such as Feed, or its beginning and one *, such as Public*",
    INDEX_COLUMN: "a column such as user_id, or created_at desc",
    TENANT: "lower case letters, digits, hyphens, dots and underscores, a letter or digit first and last",
}
"""What comes after "expected" where text has another form."""
