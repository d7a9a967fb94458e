"""``POST /admin/reload``: what is new is taken over, and answers name what they came from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import pytest
from answering import Answering, answering, outputs, problem

from expertbank import Bank


def test_a_new_router_is_taken_over_when_told_to(served_home: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(served_home, tmp_path / "bank"))
    with answering(home) as live:
        before = outputs(live.infer("film bad"))["router_digest"]["data"]
        nothing = live.post("/admin/reload").json()
        assert nothing["reloaded"] is False
        assert [nothing["router_digest"]] == before
        with Bank.open(home, device="cpu") as bank:
            router = bank.retrain_router("ridge").router
        assert outputs(live.infer("film bad"))["router_digest"]["data"] == before
        told = live.post("/admin/reload").json()
        assert told["reloaded"] is True
        assert (told["router"], told["router_digest"]) == (router.version, router.digest)
        assert told["state"] == nothing["state"] + 1
        answered = live.infer("film bad")
        assert outputs(answered)["router_digest"]["data"] == [router.digest]
        assert answered.json()["model_version"] == str(router.version)
        assert live.get("/v2/models/auto").json()["versions"] == [str(router.version)]


def test_an_answer_of_a_removed_task_that_the_router_still_chooses_names_its_experts_file(
    served_home: Path, tmp_path: Path
) -> None:
    home = Path(shutil.copytree(served_home, tmp_path / "bank"))
    with Bank.open(home, device="cpu") as bank:
        digest = bank.registry.expert("mood").digest
        bank.remove("mood")
    with answering(home) as live:
        found = outputs(live.infer("film bad"))
        assert found["task"]["data"] == ["mood"]
        assert found["expert_digest"]["data"] == [digest]
        assert json.loads(found["answer"]["data"][0])["expert_digest"] == digest


def test_a_page_of_another_site_cannot_ask_for_it(live: Answering) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    problem(httpx.post(live.url + "/admin/reload", headers=headers), 403)


@pytest.mark.parametrize("path", ["/admin/reload?path=/etc", "/admin/reload?model=other"])
def test_nothing_else_is_loaded_whatever_it_is_asked(live: Answering, path: str) -> None:
    assert live.post(path, {"path": "/etc/passwd"}).json()["reloaded"] is False
