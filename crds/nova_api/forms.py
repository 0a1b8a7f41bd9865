"""The forms of the values in a NovaService: names, hosts, ports, quantities, and what is passed on as it is."""

from typing import Annotated, Any

from msgspec import Meta

from nova_api import patterns

# It names a Kubernetes Service (RFC 1035 label), and `<name>-endpoints` and the pods' names must fit 63 characters.
ServiceName = Annotated[str, Meta(pattern=patterns.SERVICE, max_length=53)]
Name = Annotated[str, Meta(pattern=patterns.NAME, max_length=63)]
PortName = Annotated[str, Meta(pattern=patterns.NAME, max_length=15)]
Host = Annotated[str, Meta(pattern=patterns.HOST, max_length=253)]
SecretName = Annotated[str, Meta(pattern=patterns.DOTTED, max_length=253)]
VariableName = Annotated[str, Meta(pattern=patterns.VARIABLE, max_length=253)]  # printable ASCII without =, as in a Pod
Quantity = Annotated[int, Meta(ge=0)] | Annotated[str, Meta(pattern=patterns.QUANTITY, max_length=32)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Path = Annotated[str, Meta(pattern=patterns.PATH, max_length=1024)]
KubernetesObject = Annotated[
    dict[str, Any], Meta(extra_json_schema={"x-kubernetes-preserve-unknown-fields": True})
]  # passed through to the child as it is; the API server checks it there
Labels = Annotated[dict[str, str], Meta(max_length=64)]
