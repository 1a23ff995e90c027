"""Statistics and updates over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.fixture
async def one(api: Any) -> str:
    status, body, _ = await api(
        "POST", "/containers/create?name=one", json={"Image": "registry.example:5000/team/app:1.0"}
    )
    assert status == 201
    return str(body["Id"])


async def test_a_stream_of_documents(api: Any, one: str) -> None:
    async with api.session.get("http://docker/v1.50/containers/one/stats") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        lines = (await answer.text()).splitlines()
    assert [json.loads(line)["number"] for line in lines] == [0, 1, 2]


async def test_one_document(api: Any, fakes: Any, one: str) -> None:
    assert (await api("GET", "/containers/one/stats?stream=0"))[:2] == (200, {"id": one, "read": "now"})
    assert (await api("GET", "/containers/one/stats?stream=false&one-shot=true"))[0] == 200
    assert [call for call in fakes.calls if call[0] == "statistics_once"] == [
        ("statistics_once", "one", False),
        ("statistics_once", "one", True),
    ]


async def test_a_stream_of_one_shot_is_refused(api: Any, one: str) -> None:
    status, body, _ = await api("GET", "/containers/one/stats?one-shot=1")
    assert (status, body["message"]) == (400, "cannot have stream=true and one-shot=true")


async def test_of_no_container(api: Any) -> None:
    assert (await api("GET", "/containers/nope/stats"))[0] == 404
    assert (await api("GET", "/containers/nope/stats?stream=0"))[0] == 404


async def test_update(api: Any, fakes: Any) -> None:
    assert (await api("POST", "/containers/one/update", json={"Memory": 5}))[:2] == (200, {"Warnings": None})
    assert (await api("POST", "/containers/one/update", json={"Cpu": 5}))[:2] == (200, {"Warnings": ["discarded"]})
    assert fakes.calls[-1][:2] == ("update", "one")
    assert (await api("POST", "/containers/one/update"))[0] == 400
