"""The page in a real browser: clicks, keys, search, comparison; no errors, and hostile text stays text."""

import re

import pytest

from sprint_agents.viewer import render_page

from .conftest import HOSTILE


@pytest.fixture
def open_page(browser, tmp_path):
    """Open a page of runs; afterwards nothing may have been reported or requested."""
    problems: list[str] = []

    def opened(*runs, **options):
        page = browser.new_page(viewport={"width": 1200, "height": 800}, **options)
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.append(request.url) if "runs.html" not in request.url else None)
        path = tmp_path / "runs.html"
        path.write_text(render_page([run.model_dump_json() for run in runs]), "utf-8")
        page.goto(path.as_uri())
        page.locator("g.row").first.wait_for()
        return page

    yield opened
    assert problems == []


def test_a_click_shows_the_text_of_a_branch(open_page, early) -> None:
    page = open_page(early)
    assert page.locator("g.row").count() == 4
    page.locator("g.row.execution").first.click()
    details = page.locator(".details")
    assert "execution 1.1" in details.inner_text()
    assert "it is 6 + 6" in details.inner_text()
    page.keyboard.press("Escape")
    assert details.is_hidden()
    page.locator("g.row.plan").last.click()
    assert details.locator(".tag").all_inner_texts()[0] == "<Plan_1>"


def test_keys_move_unfold_and_change_the_axis(open_page, run) -> None:
    page = open_page(run)
    page.locator(".chart").focus()
    rows = page.locator("g.row").count()
    page.keyboard.press("End")
    assert "execution 2.1" in page.locator(".details").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator("g.row").count() == rows + 3
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert "execution 2.1/1.1" in page.locator(".details").inner_text()
    assert page.locator("text.tick").last.text_content().endswith(" s")
    page.keyboard.press("t")
    assert re.fullmatch(r"[\d,]+", page.locator("text.tick").last.text_content())
    assert page.locator("polyline.critical").count() == 1


def test_runs_are_searched_sorted_and_compared(open_page, run, early) -> None:
    page = open_page(run, early)
    page.keyboard.press("/")
    page.keyboard.type("100/4")
    assert page.locator("tbody tr").count() == 1
    page.locator("tbody button").click()
    assert page.locator("h1").inner_text() == early.task
    page.locator("input[type=search]").fill("")
    page.get_by_role("button", name="seconds").first.click()
    assert page.locator("th[aria-sort=ascending]").count() == 1
    for box in page.locator("tbody input").all():
        box.check()
    assert page.locator("h1").count() == 2
    seconds = [row for row in page.locator("g.row.plan").all() if row.get_attribute("data-index") == "0"]
    assert len(seconds) == 2  # the first stages are side by side


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_hostile_text_stays_text(open_page, run, scheme) -> None:
    page = open_page(run, color_scheme=scheme)
    for row in page.locator("g.row").all():
        row.click()
    assert page.title() == "sprint-agents"
    assert page.locator("img").count() == 0
    assert page.locator("h1").text_content() == run.task
    page.locator("g.row.execution").first.click()
    assert HOSTILE in json_text(page.locator(".details").text_content())


def json_text(text: str) -> str:
    return text.replace('\\"', '"')


def test_a_notebook_frame_draws_the_chart(browser, early) -> None:
    page = browser.new_page()
    page.set_content(early._repr_html_())
    page.frame_locator("iframe").locator("g.row").first.wait_for()
    assert page.frame_locator("iframe").locator("g.row").count() == 4


def test_ten_thousand_branches_are_drawn_as_they_are_scrolled_to(open_page, early) -> None:
    (stage, last) = early.stages
    many = [stage.executions[0].model_copy(update={"number": number}) for number in range(1, 10_001)]
    wide = early.model_copy(update={"stages": (stage.model_copy(update={"executions": tuple(many)}), last)})
    page = open_page(wide)
    assert page.locator("g.row").count() < 100
    page.locator(".chart").focus()
    page.keyboard.press("End")
    assert page.locator("g.row").last.get_attribute("data-index") == "10001"


def test_a_phone_sees_the_chart_and_the_details(open_page, early) -> None:
    page = open_page(early)
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("g.row.execution").first.click()
    assert page.locator(".details").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    chart, details = page.locator(".chart").bounding_box(), page.locator(".details").bounding_box()
    assert 0 <= chart["y"] < details["y"] - 200  # the chart is above the text, in sight


def test_a_live_page_shows_what_is_added(browser, run, early) -> None:
    """The page asks its own server, here played by the browser's routing, and keeps what is selected."""
    problems: list[str] = []
    growing = early.model_copy(update={"stages": early.stages[:1]})
    served = [[], [growing], [early, run]]
    asked: list[int] = []

    def play(route) -> None:
        if route.request.url.endswith("runs.json"):
            now = min(len(asked), 2)
            asked.append(now)
            body = "[" + ",".join(each.model_dump_json() for each in served[now]) + "]"
            route.fulfill(body=body, content_type="application/json", headers={"etag": f'"{now}"'})
        else:
            route.fulfill(body=render_page((), live="runs.json"), content_type="text/html")

    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.route("http://live.example/**", play)
    page.goto("http://live.example/")
    page.locator("g.row.execution").first.click()
    selected = page.locator(".details").inner_text()
    page.locator("nav.runs tbody tr").nth(1).wait_for()
    assert page.locator(".details").inner_text() == selected
    assert page.locator("g.row.plan").count() == len(early.stages)
    assert problems == []
    page.close()
