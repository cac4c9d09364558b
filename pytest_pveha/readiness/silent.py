"""Who gives no answer is asked once: by each check after another it would cost a person minutes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

from pytest_pveha.errors import AuthRefused, SiteError, Unreachable
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.observer import READ, Observer


@contextmanager
def each_node_asked(observer: Observer) -> Iterator[Mapping[str, str | SiteError]]:
    """Each node was asked for its boot id, all at once: its answer, or why there is none.

    Whoever gave none, or refused us, is not asked over SSH again meanwhile; what would have been asked fails with the
    same words. An sshd that is asked again and again with a wrong key keeps us off for minutes (PerSourcePenalties).
    """
    said: dict[str, str | SiteError] = {}

    def ask(node: Node) -> None:
        try:
            said[node.name] = node.boot_id(observer.site.clock.deadline(READ))
        except SiteError as error:
            said[node.name] = error

    tasks = [observer.site.clock.spawn(f"ask-{node.name}", partial(ask, node)) for node in observer.site.nodes]
    for task in tasks:
        task.join()
    with ExitStack() as stack:
        for node in observer.site.nodes:
            answer = said[node.name]
            if isinstance(answer, Unreachable | AuthRefused):
                stack.enter_context(node.given_up(answer))
        yield said
