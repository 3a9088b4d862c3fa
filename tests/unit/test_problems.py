"""Errors of requests as problems, where no route of the service can cause them yet."""

from __future__ import annotations

from typing import Annotated

import httpx
from fastapi import FastAPI, Query

from service.api import problems


async def test_a_sentence_of_pydantic_may_hold_braces() -> None:
    """A pattern is shown as it stands; only our own sentences have places to fill."""
    app = FastAPI()
    problems.register(app)

    @app.get("/")
    async def ask(year: Annotated[str, Query(pattern="^[0-9]{4}$")]) -> str:
        return year

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.get("/", params={"year": "x"})

    assert response.status_code == 422
    [error] = response.json()["errors"]
    assert error["field"] == "year"
    assert "^[0-9]{4}$" in error["message"]
