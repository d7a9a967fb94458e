"""KServe's own client, unmodified; tried where it is installed."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from answering import Answering

kserve = pytest.importorskip("kserve", reason="pip install kserve")


@pytest.mark.parametrize("binary", [False, True])
def test_kserves_client_asks_and_reads(live: Answering, binary: bool) -> None:
    async def ask() -> None:
        async with kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2")) as client:
            assert await client.is_server_live(live.url)
            assert await client.is_server_ready(live.url)
            assert await client.is_model_ready(live.url, "mood")
            text = kserve.InferInput("text", [2], "BYTES")
            values = np.array(["film bad", "goal red"], dtype=np.object_)
            text.set_data_from_numpy(values, binary_data=binary)
            asked = kserve.InferRequest(
                "auto", [text], request_id="x", parameters={"binary_data_output": binary}
            )
            found = await client.infer(live.url, asked, model_name="auto")
            assert found.id == "x"
            tasks = next(one for one in found.outputs if one.name == "task")
            assert list(tasks.data) == [
                one.task for one in live.bank.predict(["film bad", "goal red"])
            ]

    asyncio.run(ask())
