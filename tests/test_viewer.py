"""The page as a visitor meets it: real Chromium, a real range server, compared with Python."""

import io
import re
import shutil
from urllib.parse import urlsplit

import pytest
from archives import make_archive, make_cells
from browser import opened, until
from PIL import Image

import embarchive
from embarchive import serve
from embarchive.publish import publish

FIRST_VIEW = 1_000_000
STATE = "document.body.dataset.state"
SETTLED = "Number(document.body.dataset.settled ?? 0)"
CARDS = "[...document.querySelectorAll('.card')].map((card) => card.dataset.geohash)"


@pytest.fixture(scope="module")
def demo():
    """The archive in the package, opened, and its URL."""
    root = serve.demo_root()
    with serve.running(root) as url:
        yield embarchive.open_archive(root), url


def visit(page, url, session=""):
    """Open the page with a session in the address and wait until it rests; its state."""
    page.goto("about:blank")
    page.goto(f"{url}/viewer/index.html#{session}")
    return rest(page)


def rest(page, before=0):
    """The state of the page when it has done what was asked after it had settled so often."""
    until(page, f"{SETTLED} > {before}")
    return page.evaluate(STATE)


def again(page, session):
    """Another session on an open page, as a followed link gives it."""
    return after(page, lambda: page.evaluate("(hash) => { location.hash = hash; }", session))


def after(page, act):
    """Do something that the page answers to, and wait until it rests; its state."""
    before = page.evaluate(SETTLED)
    act()
    return rest(page, before)


def middle(archive):
    """A geohash in the midst of the archive, and a box of about a quarter of it."""
    names = archive.select(columns=["geohash"])["geohash"].unique().to_pylist()
    west, south, east, north = archive.bounds
    box = (west, south, (west + east) / 2, (south + north) / 2)
    return names[len(names) // 2], tuple(round(side, 6) for side in box)


def hits(archive, query, **where):
    return archive.search(like=[query], **where)["geohash"].to_pylist()


def test_the_page_draws_the_archive_and_nothing_is_refused(page, demo):
    archive, url = demo
    assert visit(page, url) == "ready"
    assert page.locator("#title").inner_text() == archive.settings.title
    assert f"{len(archive):,} tiles" in page.locator("#facts").inner_text()
    assert _colours(page) > 3, "expected land, the footprint and tiles on the map"
    assert page.seen.faults == []


def test_no_request_leaves_the_origin(page, demo):
    archive, url = demo
    query, _ = middle(archive)
    visit(page, url, f"like={query}")
    until(page, "document.querySelectorAll('canvas.decoded').length > 0")
    assert {urlsplit(request).netloc for request in page.seen.requests} == {urlsplit(url).netloc}


def test_the_first_view_takes_less_than_a_megabyte_before_data(page, demo):
    _, url = demo
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    sizes = []
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    visit(page, url)
    listed = page.evaluate(
        "performance.getEntriesByType('resource').filter((one) => one.name.includes('/viewer/'))"
        ".map((one) => one.transferSize)"
    )
    assert 100_000 < sum(listed) < FIRST_VIEW
    assert sum(sizes) < FIRST_VIEW


def test_a_click_gives_ranked_decoded_cards(page, demo):
    archive, url = demo
    visit(page, url)
    assert after(page, page.locator("#map canvas").first.click) == "ready"
    like = re.search(r"like=(\w+)", page.url)[1]
    assert page.evaluate(CARDS) == hits(archive, like, k=24)
    until(page, "document.querySelectorAll('canvas.decoded').length === 24")
    ranks = page.locator(".card .rank").all_inner_texts()
    assert ranks == [str(rank) for rank in range(1, 25)]
    assert page.seen.faults == []


def test_a_drawn_rectangle_gives_the_hits_of_python_in_their_order(page, demo):
    archive, url = demo
    query, _ = middle(archive)
    visit(page, url, f"like={query}&k=50")
    page.get_by_role("button", name="Draw a rectangle").click()
    box = page.locator("#map").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.3)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.65, steps=4)
    assert after(page, page.mouse.up) == "ready"
    drawn = [float(side) for side in re.search(r"bbox=([-\d.,]+)", page.url)[1].split(",")]
    expected = hits(archive, query, k=50, bbox=drawn)
    assert 5 < len(expected) < len(archive) // 2
    assert page.evaluate(CARDS) == expected


@pytest.mark.parametrize("where", ["", "box"])
@pytest.mark.parametrize("how", [{}, {"op": "min"}, {"invert": True}, {"per_place": 0}])
def test_every_way_to_compare_gives_what_python_gives(page, demo, how, where):
    archive, url = demo
    names = archive.select(columns=["geohash"])["geohash"].unique().to_pylist()
    like, unlike = [names[3], names[len(names) // 2]], [names[-4]]
    _, box = middle(archive)
    words = {"op": "op=min", "invert": "invert=1", "per_place": "everyDate=1"}
    session = f"like={'+'.join(like)}&unlike={unlike[0]}&k=50&" + "&".join(
        words[key] for key in how
    )
    bbox = box if where else None
    if bbox:
        session += "&bbox=" + ",".join(map(str, bbox))
    assert visit(page, url, session) == "ready"
    expected = archive.search(like=like, unlike=unlike, k=50, bbox=bbox, **how)
    assert page.evaluate(CARDS) == expected["geohash"].to_pylist()


def test_a_tile_is_searched_by_as_it_is_shown_with_its_date(page, tmp_path):
    make_archive(tmp_path, 90, dates=3)
    archive = embarchive.open_archive(tmp_path)
    first = min(archive.select()["datetime"].to_pylist()).date().isoformat()
    with serve.running(tmp_path) as url:
        west, south, east, north = archive.bounds
        visit(page, url, f"bbox={west},{south},{east},{north}&from={first}&to={first}")
        name = page.evaluate(CARDS)[0]
        after(page, page.get_by_role("button", name=f"+ like {name}").click)
        assert f"like={name}@{first}" in page.url.replace("%40", "@")
        expected = archive.search(
            like=[f"{name}@{first}"], k=24, bbox=archive.bounds, datetime=first
        )
        assert page.evaluate(CARDS) == expected["geohash"].to_pylist()


def test_what_cannot_be_searched_does_not_stay(page, demo):
    archive, url = demo
    query, _ = middle(archive)
    visit(page, url, f"like={query}&k=12")
    cards = page.evaluate(CARDS)
    page.locator("#place").fill("10 10")
    assert after(page, page.get_by_role("button", name="Add").click) == "error"
    assert "10,10" in page.locator("#message").inner_text()
    assert page.evaluate(CARDS) == cards and "10,10" not in page.url
    page.get_by_role("button", name="Clear").click()
    until(page, f"{CARDS}.length === 0")


def test_a_rectangle_is_drawn_by_touch_and_not_by_two_fingers(browser, demo):
    _, url = demo
    with opened(browser, has_touch=True, viewport={"width": 500, "height": 900}) as page:
        visit(page, url)
        page.get_by_role("button", name="Draw a rectangle").tap()
        touch = page.context.new_cdp_session(page)

        def send(kind, *points):
            found = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": found})

        send("touchStart", (150, 150))
        send("touchStart", (150, 150), (300, 300))
        send("touchMove", (100, 100), (350, 350))
        send("touchEnd")
        page.wait_for_timeout(200)
        assert "bbox=" not in page.url
        send("touchStart", (200, 150))
        send("touchMove", (300, 250))
        send("touchEnd")
        until(page, "location.hash.includes('bbox=')")


def test_dates_are_kept_to(page, tmp_path):
    make_archive(tmp_path, 90, dates=3)
    archive, query = embarchive.open_archive(tmp_path), make_cells(30)[7]
    days = sorted({str(one)[:10] for one in archive.select()["datetime"].to_pylist()})
    with serve.running(tmp_path) as url:
        session = f"like={query}&everyDate=1&k=50"
        for first, last in ((days[0], days[0]), (days[1], days[2]), ("", days[1])):
            assert visit(page, url, f"{session}&from={first}&to={last}".replace("from=&", ""))
            when = f"{first or '..'}/{last}"
            expected = archive.search(like=[query], k=50, datetime=when, per_place=0)
            assert page.evaluate(CARDS) == expected["geohash"].to_pylist()
            assert 0 < len(expected) < 89
        assert again(page, f"like={query}&from=1999-01-01&to=1999-12-31") == "empty"
        assert "No other tile" in page.locator("#message").inner_text()


def test_ndvi_is_another_picture_of_the_same_tile(page, demo):
    archive, url = demo
    query, _ = middle(archive)
    visit(page, url, f"like={query}&k=12")
    until(page, "document.querySelectorAll('canvas.decoded').length === 12")
    first = page.evaluate(_PIXELS)
    page.get_by_text("NDVI", exact=True).click()
    until(page, f"JSON.stringify({_PIXELS}) !== '{first}'.replaceAll(' ', '')")
    assert "show=ndvi" in page.url


def test_a_session_is_found_again_by_its_link_and_by_back(page, demo):
    archive, url = demo
    query, _ = middle(archive)
    visit(page, url, f"like={query}&k=12")
    link, cards = page.url, page.evaluate(CARDS)
    after(page, page.get_by_role("button", name=re.compile("unlike")).first.click)
    assert "unlike=" in page.url
    assert page.evaluate(CARDS) != cards
    page.go_back()
    until(page, f"JSON.stringify({CARDS}) === {_json(cards)}")
    page.goto("about:blank")
    page.goto(link)
    until(page, f"JSON.stringify({CARDS}) === {_json(cards)}")


def test_a_rectangle_alone_lists_tiles_to_choose_from(page, demo):
    archive, url = demo
    _, box = middle(archive)
    assert visit(page, url, "bbox=" + ",".join(map(str, box))) == "ready"
    names = page.evaluate(CARDS)
    inside = set(archive.select(bbox=box, columns=["geohash"])["geohash"].to_pylist())
    assert len(names) == min(24, len(inside)) and set(names) <= inside
    after(page, page.get_by_role("button", name=f"+ like {names[0]}").click)
    assert f"like={names[0]}" in page.url
    assert page.evaluate(CARDS) == hits(archive, names[0], k=24, bbox=box)


def test_what_a_link_says_wrongly_is_named_and_left_out(page, demo):
    _, url = demo
    visit(page, url, "like=%3Cimg%20src=x%20onerror=alert(1)%3E&k=7")
    assert "not understood: like=<img" in page.locator("#warning").inner_text()
    assert page.locator("img").count() == 0
    assert page.seen.faults == []


def test_a_place_without_a_tile_names_the_nearest(page, demo):
    _, url = demo
    visit(page, url)
    page.locator("#place").fill("0,0")
    assert after(page, page.get_by_role("button", name="Add").click) == "error"
    assert "nearest is" in page.locator("#message").inner_text()


def test_the_view_is_shown_as_the_archive_remembers_it(page, demo):
    _, url = demo
    visit(page, url)
    before = _colours(page)
    page.get_by_label("Decoded imagery").check()
    until(page, "location.hash.includes('imagery=1')")
    page.wait_for_timeout(200)
    for _ in range(100):
        if _colours(page) > 20 * before:
            break
        page.wait_for_timeout(100)
    assert _colours(page) > 20 * before
    page.get_by_label("Decoded imagery").uncheck()
    page.wait_for_timeout(500)
    assert _colours(page) < 2 * before
    assert page.seen.faults == []


def test_a_click_while_a_rectangle_is_drawn_is_not_one_on_a_place(page, demo):
    _, url = demo
    visit(page, url)
    page.get_by_role("button", name="Draw a rectangle").click()
    page.locator("#map canvas").first.click()
    page.wait_for_timeout(200)
    assert "like=" not in page.url and "bbox=" not in page.url
    page.keyboard.press("Escape")
    after(page, page.locator("#map canvas").first.click)
    assert "like=" in page.url and "bbox=" not in page.url


@pytest.mark.parametrize("place", ["10,95", "200,0", "u2ed@2023-02-30", "a"])
def test_a_place_that_cannot_be_is_refused_and_nothing_stops(page, demo, place):
    archive, url = demo
    visit(page, url)
    page.locator("#place").fill(place)
    page.get_by_role("button", name="Add").click()
    until(page, f"{STATE} === 'error'")
    assert place in page.locator("#message").inner_text()
    query, _ = middle(archive)
    assert again(page, f"like={query}&k=12") == "ready"
    assert page.seen.faults == []


def test_without_webgl_the_page_says_what_it_needs(browser, demo):
    _, url = demo
    with opened(browser) as page:
        page.add_init_script(
            "HTMLCanvasElement.prototype.getContext = () => null;"
            "OffscreenCanvas.prototype.getContext = () => null;"
        )
        page.goto(f"{url}/viewer/index.html")
        until(page, f"{STATE} === 'error'")
        assert "WebGL 2" in page.locator("#message").inner_text()


def test_a_published_page_opens_from_a_plain_folder(page, demo, tmp_path):
    shutil.copytree(serve.demo_root(), tmp_path / "a")
    publish(tmp_path / "a")
    with serve.running(tmp_path / "a") as url:
        page.goto(url)
        assert rest(page) == "ready"
        assert page.seen.faults == []


def _json(names):
    return "'" + str(names).replace("'", '"').replace(" ", "") + "'"


def _colours(page):
    picture = Image.open(io.BytesIO(page.locator("#map").screenshot()))
    return len(picture.getcolors(1 << 24))


_PIXELS = """(() => {
  const canvas = document.querySelector('canvas.decoded');
  return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, 2).data];
})()"""
