"""What the filters see: an exchange of HTTP/1.1 or a call of HTTP/2, which have the same names for it."""

from nova_sidecar.pipeline.exchange import Exchange
from nova_sidecar.pipeline.http2.call import Call

Handled = Exchange | Call
