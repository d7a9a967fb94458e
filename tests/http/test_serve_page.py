"""The page for people: what it answers, shows, escapes and refuses, and how a browser takes it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

import httpx
from pages import CHROMIUM, Page
from served import HOSTILE, make_bank, running

from expertbank import Bank, load_bundle
from expertbank.http.app import make_app
from expertbank.http.keys import KeyFile
from expertbank.http.watch import Watch
from expertbank.serving.from_bank import BankSource
from expertbank.serving.from_bundle import BundleSource
from expertbank.serving.limits import ServeConfig
from expertbank.serving.server import Server


@dataclass(frozen=True)
class Site:
    """A server that runs, and the bank that it answers from."""

    address: str
    bank: Bank

    def post(self, **fields: str) -> httpx.Response:
        return httpx.post(self.address, data=fields, timeout=60)


@pytest.fixture(scope="module")
def home(backbone_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("served") / "bank"
    make_bank(home, backbone_folder("bert"))
    return home


@pytest.fixture(scope="module")
def site(home: Path) -> Iterator[Site]:
    with Bank.open(home, read_only=True) as bank:
        server = Server(BankSource(bank))
        app = make_app(server, watch=Watch())
        server.start()
        with running(app) as address:
            server.wait_ready(60)
            yield Site(address, bank)


def test_a_posted_form_is_answered_in_a_page_that_needs_no_script(site: Site) -> None:
    (expected,) = site.bank.predict("film bad the sky")
    answer = site.post(text="film bad the sky")
    page = Page(answer.text)
    assert answer.status_code == 200
    assert page.open == []
    assert f"Sent to {expected.task}" in page.text
    for label, probability in expected.scores.items():
        assert re.search(rf"{re.escape(label)}\s*(?:\(chosen\))?\s*{probability:.3f}", page.text)
    assert f"{expected.confidence:.3f} of its probability" in page.text
    assert "film bad the sky" in page.text, "what was typed is still there"


def test_the_tasks_that_came_close_have_the_probability_that_the_router_gave_them(
    site: Site,
) -> None:
    text = "goal red film bad"
    (expected,) = site.bank.predict(text)
    page = Page(site.post(text=text).text)
    _, _, near = page.text.partition("Where it could have gone")
    near, _, _ = near.partition("What ")
    figures = [float(found) for found in re.findall(r"\d\.\d{3}", near)]
    assert len(figures) == 3, "mood, the group, marks; pick reads choices only"
    assert figures == sorted(figures, reverse=True)
    assert sum(figures) == pytest.approx(1, abs=0.002)
    assert figures[0] == pytest.approx(expected.confidence, abs=0.001)


def test_a_group_answers_with_all_its_experts(site: Site) -> None:
    (expected,) = site.bank.predict("goal red the sky")
    assert {one.task for one in expected.answers} == {"topic", "urgency"}
    page = Page(site.post(text="goal red the sky").text)
    for one in expected.answers:
        assert f"What {one.expert} says" in page.text


def test_choices_stand_in_the_order_given_and_blank_lines_are_none(site: Site) -> None:
    page = Page(site.post(text="the sky is blue", choices="tax match\n\n law party \n").text)
    assert "Sent to pick" in page.text
    assert page.text.index("tax match", page.text.index("What pick@1")) < page.text.index(
        "law party", page.text.index("What pick@1")
    )


def test_labels_that_may_hold_together_show_from_where_on(site: Site) -> None:
    answer = site.post(text="cell gene of the sky", model="marks")
    page = Page(answer.text)
    assert "You named the task" in page.text
    assert "Where it could have gone" not in page.text
    assert len([one for one in page.all("rect") if one.get("class") == "least"]) == 3


def test_who_asks_for_no_answer_to_strange_texts_gets_none(site: Site) -> None:
    page = Page(site.post(text="virus law player " * 9, abstain="yes").text)
    assert "you asked for no answer then" in page.text
    assert "(unknown)" in page.text
    assert not re.search(r"What \w+@1 says", page.text)


@pytest.mark.parametrize(
    ("fields", "status", "sentence"),
    [
        ({"text": " "}, 422, "empty"),
        ({"text": "sky", "model": "nobody"}, 404, "nobody"),
        ({"text": "sky", "choices": "one\ntwo", "model": "mood"}, 422, "choices"),
        ({"text": "sky\0"}, 422, "NUL"),
    ],
)
def test_what_cannot_be_answered_is_told_in_the_page(
    site: Site, fields: dict[str, str], status: int, sentence: str
) -> None:
    answer = site.post(**fields)
    assert answer.status_code == status
    assert sentence in Page(answer.text).text.partition("No answer")[2].partition("Last minute")[0]
    assert site.post(text="film bad").status_code == 200


def test_a_form_that_is_none_is_refused(site: Site) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for body in (b"text=%ff", "text=\u00fc".encode(), b"&".join([b"a=b"] * 99)):
        assert httpx.post(site.address, content=body, headers=form).status_code == 400
    other = httpx.post(site.address, json={"text": "film bad"})
    assert other.status_code == 415
    assert "application/x-www-form-urlencoded" in other.text


def test_another_sites_page_cannot_ask_in_its_readers_name(site: Site) -> None:
    answer = httpx.post(
        site.address, data={"text": "film"}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert answer.status_code == 403
    assert "Sent to" not in answer.text


def test_texts_and_labels_stay_text_whatever_they_are(site: Site) -> None:
    given = "film good </textarea><script>alert(1)</script>&amp;"
    answer = site.post(text=given, text_pair='"><img src=x onerror=alert(2)>')
    page = Page(answer.text)
    assert given in page.text
    assert page.all("img") == []
    assert len(page.all("script")) == 1
    assert not any(name.startswith("on") for _, given in page.elements for name in given)
    labelled = Page(site.post(text="film good", model="mood").text)
    assert HOSTILE in labelled.text
    assert len(labelled.all("script")) == 1


def test_nothing_is_loaded_from_elsewhere_and_no_text_stands_in_an_address(site: Site) -> None:
    answer = httpx.get(site.address)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    page = Page(answer.text)
    addresses = [given.get("href") or given.get("src") for _, given in page.elements]
    assert not [one for one in addresses if one and re.match(r"(?:[a-z]+:)?//", one)]
    assert "@import" not in answer.text
    assert "url(" not in answer.text
    (form,) = page.all("form")
    assert form["method"] == "post"
    assert "=" not in str(httpx.post(site.address, data={"text": "film"}).url)


def test_it_can_be_read_by_keyboard_and_by_a_screen_reader(site: Site) -> None:
    answer = site.post(text="film bad")
    page = Page(answer.text)
    assert page.all("html")[0]["lang"] == "en"
    ids = [given["id"] for _, given in page.elements if given.get("id")]
    assert len(ids) == len(set(ids))
    fields = page.all("textarea") + page.all("select")
    labelled = {given["for"] for given in page.all("label") if given.get("for")}
    assert {field["id"] for field in fields} == labelled
    described = [given["aria-describedby"] for given in fields if given.get("aria-describedby")]
    assert set(described) <= set(ids)
    headings = [int(name[1]) for name, _ in page.elements if re.fullmatch(r"h\d", name)]
    assert headings[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
    assert len(page.all("main")) == len(page.all("header")) == len(page.all("footer")) == 1
    for drawing in page.all("svg"):
        assert drawing["aria-hidden"] == "true", "its figure stands beside it"
    for medium in ("prefers-color-scheme: dark", "forced-colors", ":focus-visible"):
        assert medium in answer.text


def test_tasks_are_listed_with_what_is_known_of_their_experts(site: Site) -> None:
    page = Page(httpx.get(site.address).text)
    report = site.bank.forgetting_report()
    for task in report.tasks:
        assert task.expert in page.text
        if task.majority is not None:
            assert f"{task.majority:.3f}" in page.text
    assert "topic (group ticket)" in page.text
    assert "router@2 over 5 tasks" in page.text


def test_the_verdict_on_forgetting_is_that_of_the_report_and_leads_to_it(site: Site) -> None:
    from expertbank.reports import words

    report = site.bank.forgetting_report()
    page = Page(httpx.get(site.address).text)
    assert words.headline(report) in page.text
    assert words.summary(report) in page.text
    whole = httpx.get(f"{site.address}/report")
    assert whole.status_code == 200
    assert words.headline(report) in Page(whole.text).text


def test_live_figures_count_what_was_asked(site: Site) -> None:
    before = httpx.get(f"{site.address}/live").json()
    for _ in range(3):
        site.post(text="film bad")
    site.post(text="")
    after = httpx.get(f"{site.address}/live").json()
    assert int(after["rows"]) - int(before["rows"]) == 3
    assert int(after["requests"]) - int(before["requests"]) == 4
    assert after["state"] == "ready"
    assert after["median"].endswith(" ms")


def test_a_bundle_has_a_page_too_without_a_report(
    home: Path, backbone_folder, tmp_path: Path
) -> None:
    with Bank.open(home) as bank:
        bank.export(tmp_path / "bundle")
    expected = next(
        load_bundle(tmp_path / "bundle", backbone=str(backbone_folder("bert"))).predict(
            ["film bad"]
        )
    )
    server = Server(BundleSource(tmp_path / "bundle", str(backbone_folder("bert"))))
    server.start()
    with running(make_app(server)) as address:
        server.wait_ready(60)
        page = Page(httpx.post(address, data={"text": "film bad"}, timeout=60).text)
        assert f"Sent to {expected.task}" in page.text
        assert "A bundle holds no evidence" in page.text
        assert httpx.get(f"{address}/report").status_code == 404


def test_a_page_is_shown_before_the_server_is_ready(home: Path) -> None:
    with Bank.open(home, read_only=True) as bank:
        server = Server(BankSource(bank))
        with running(make_app(server)) as address:
            page = httpx.get(address)
            assert page.status_code == 200
            assert "starting" in page.text
            assert httpx.post(address, data={"text": "film"}).status_code == 503


def test_a_state_that_could_not_be_replaced_says_so(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "bank")
    with Bank.open(tmp_path / "bank") as bank:
        server = Server(BankSource(bank), ServeConfig(reload="off"))
        server.start()
        with running(make_app(server)) as address:
            server.wait_ready(60)
            assert "newer state" not in httpx.get(address).text
            first = bank.routers()[0]
            (file,) = (tmp_path / "bank" / "objects").rglob(f"{first.digest}*")
            bank.set_alias("active", first.version)
            file.chmod(0o644)
            file.write_bytes(file.read_bytes()[:-1] + b"?")
            assert httpx.post(f"{address}/admin/reload", timeout=60).status_code == 500
            page = httpx.get(address).text
            assert "A newer state could not be loaded" in page
            assert str(tmp_path) not in page
            answer = httpx.post(address, data={"text": "film bad"}, timeout=60)
            assert "router@2" in answer.text
            assert answer.status_code == 200


browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture
def chromium():
    driver = pytest.importorskip("playwright.sync_api")
    with driver.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@browser
@pytest.mark.parametrize("scripts", [True, False])
def test_a_browser_asks_by_keyboard_with_and_without_scripts(
    site: Site, chromium, scripts: bool
) -> None:
    context = chromium.new_context(java_script_enabled=scripts)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(site.address)
    page.locator("#text").press_sequentially("film good the sky")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.locator("button:focus").count():
            break
    page.keyboard.press("Enter")
    page.locator("#answer .verdict").wait_for()
    assert "Sent to" in page.locator("#answer").inner_text()
    assert HOSTILE in page.locator("#answer").inner_text()
    assert page.locator("#text").input_value() == "film good the sky"
    assert "film" not in page.url
    assert page.locator("#answer:focus").count() == 1, "reading goes on at the answer"
    assert page.url.endswith("#answer") != scripts, "a script asks without leaving the page"
    assert said == []
    assert {url.partition("/")[2].partition("/")[2].partition("/")[0] for url in asked} == {
        site.address.partition("//")[2]
    }


@browser
def test_where_keys_are_asked_for_a_browser_gives_one_as_a_password(
    home: Path, tmp_path: Path, chromium
) -> None:
    key = "a-key-of-sixteen-characters-or-more"
    (tmp_path / "keys").write_text(key)
    with Bank.open(home, read_only=True) as bank:
        server = Server(BankSource(bank))
        server.start()
        with running(make_app(server, keys=KeyFile(tmp_path / "keys"))) as address:
            server.wait_ready(60)
            assert httpx.get(address).status_code == 401
            login = {"username": "anybody", "password": key}
            page = chromium.new_context(http_credentials=login).new_page()
            page.goto(address)
            page.fill("#text", "film bad the sky")
            page.click("button")
            page.locator("#answer .verdict").wait_for()
            assert "Sent to" in page.locator("#answer").inner_text()


@browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing_to_mend(site: Site, chromium, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = chromium.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True
    )
    page = context.new_page()
    page.goto(site.address)
    page.fill("#text", "goal red the sky")
    page.click("button")
    page.locator("#answer .verdict").wait_for()
    found = axe.run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
    wide = page.evaluate(
        "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    )
    assert not wide, "only tables scroll sideways"


@browser
def test_live_figures_move_without_loading_the_page_again(site: Site, chromium) -> None:
    page = chromium.new_context().new_page()
    page.goto(site.address)
    shown = page.locator("[data-live=rows]")
    before = int(shown.inner_text().replace(",", ""))
    site.post(text="film bad")
    page.get_by_text(re.compile(f"^{before + 1:,}$")).first.wait_for()
