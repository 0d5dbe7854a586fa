"""What a delegate says. Enters: messages to it. Leaves: its answers. Next: `subscriptions.py`.

simnode runs no delegate's code (protocol.md §6): a registered one echoes application messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from simnode.protocol.messages.delegates import ApplicationMessage, InboundDelegateMsg, OutboundDelegateMsg


def echo(inbound: Iterable[InboundDelegateMsg]) -> tuple[OutboundDelegateMsg, ...]:
    """Each application message back, unchanged but for `processed`; everything else earns no answer."""
    return tuple(replace(message, processed=True) for message in inbound if isinstance(message, ApplicationMessage))
