"""Whom a certificate speaks for, and that one which contradicts itself speaks for nobody."""

from __future__ import annotations

import pytest

from quorumlog.proto.identity import BadIdentity, Identity, client_uri, identify, node_uri, role_uri


def test_a_node_a_client_and_its_roles() -> None:
    assert identify("c", [node_uri("c", "n1")]) == Identity("n1", is_node=True)
    assert identify("c", [client_uri("c", "shop")], "another") == Identity("shop")
    uris = [role_uri("c", "produce"), client_uri("c", "shop"), role_uri("c", "admin")]
    assert identify("c", uris) == Identity("shop", roles=frozenset(("produce", "admin")))


def test_certificates_of_other_makers_have_a_name_and_are_never_a_node() -> None:
    assert identify("c", [], "Billing Team") == Identity("Billing Team")
    assert identify("c", ["spiffe://corp/node/n1"], "x") == Identity("spiffe://corp/node/n1")


@pytest.mark.parametrize(
    "uris",
    [
        ["quorumlog://another/node/n1"],
        ["quorumlog://another/client/shop"],
        ["quorumlog://c/node/n1", "quorumlog://c/node/n2"],
        ["quorumlog://c/node/n1", "quorumlog://c/client/shop"],
        ["quorumlog://c/node/n1", "quorumlog://another/node/n1"],
        ["quorumlog://c/node/n1", "quorumlog://c/role/admin"],
        ["quorumlog://c/role/admin"],
        ["quorumlog://c/client/shop", "quorumlog://c/role/root"],
        ["quorumlog://c/node/"],
        ["quorumlog://c/node/../n1"],
        ["quorumlog://c/node/n1\n"],
        ["quorumlog://c/node/n1/x"],
        ["quorumlog://c/king/n1"],
        ["quorumlog:node/n1"],
        ["quorumlog://c/client/" + "x" * 65],
        ["spiffe://a/b", "spiffe://a/c"],
        ["spiffe://a/\n"],
        ["spiffe://a/" + "b" * 600],
    ],
)
def test_what_contradicts_itself_speaks_for_nobody(uris: list[str]) -> None:
    with pytest.raises(BadIdentity):
        identify("c", uris, "a name that does not help")


@pytest.mark.parametrize("name", [None, "", "a\nb", "\x00", "x" * 600])
def test_a_certificate_without_a_usable_name_speaks_for_nobody(name: str | None) -> None:
    with pytest.raises(BadIdentity):
        identify("c", [], name)
