"""The page of cook report in a real browser, from disk: Chromium without a window, driven by Selenium."""

import shutil
import time

import orjson
import pytest

from conftest import COLLECTION, entry, needs_collection, pair, write_shard
from cook import Recipe, mix, report, run

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install '.[dev]'")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no chromium with its chromedriver (Debian: apt-get install chromium-driver)"
)

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
HOSTILE = (
    "<script>window.owned = 1</script><img src='https://example.invalid/x.png' onerror='window.owned = 2'>"
    "</article></main><svg onload='window.owned = 3'><style>body { display: none }</style>"
    "<a href='javascript:window.owned = 4'>x</a><iframe src='https://example.invalid'></iframe>"
)


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages: `root` of two datasets with hostile text, `mix` of both."""
    folder = tmp_path_factory.mktemp("pages")
    rows = [
        entry(f"Context {i}. {HOSTILE}", pair(f"Question {i}? {HOSTILE}", "מה קרא הנער אתמול בערב")) for i in range(20)
    ]
    write_shard(folder, "hostile", [*rows, {"context": "none", "QA_list": []}])
    write_shard(folder, "other", [entry(f"Context {i}. " * 9) for i in range(50)])
    recipe = Recipe(datasets=("hostile", "other"), tokenizer="llama3", source=folder, output=folder / "out",
                    max_length=700, cache="none")  # fmt: skip
    run(recipe)
    mix(folder / "out", folder / "all")
    report(folder / "out", folder / "root.html", samples=4)
    report(folder / "all", folder / "mix.html", samples=4)
    return {name: (folder / f"{name}.html").as_uri() for name in ("root", "mix")}


def opened(browser, page, size="desktop", scheme="light"):
    """Open a page; what the console said, and what was asked of any place but the page itself."""
    width, height = SIZES[size]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    browser.get("about:blank")
    browser.get_log("performance")
    browser.get(page)
    time.sleep(0.1)  # for what would be loaded late
    messages = [orjson.loads(row["message"])["message"] for row in browser.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    return [row["message"] for row in browser.get_log("browser")], asked - {page, "data:,"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["root", "mix"])
def test_it_opens_without_an_error_or_a_request(browser, pages, name, size, scheme):
    console, asked = opened(browser, pages[name], size, scheme)
    assert console == []
    assert asked == set()
    assert browser.execute_script("return typeof window.owned") == "undefined"
    assert browser.execute_script("return document.querySelectorAll('iframe, img, article svg').length") == 0
    wide, room = browser.execute_script("return [document.documentElement.scrollWidth, document.body.clientWidth]")
    assert wide <= SIZES[size][0], "the page is wider than the screen"
    assert room > 300
    back = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_plots_are_seen_in_the_pages_colours(browser, pages, scheme):
    """Each has a size, and shapes whose colour is the page's and not that of what is behind."""
    opened(browser, pages["root"], scheme=scheme)
    plots = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(svg => ({"
        "  box: svg.getBoundingClientRect().toJSON(), name: svg.getAttribute('aria-label'),"
        "  ink: getComputedStyle(svg.querySelector('text')).fill, font: svg.querySelector('text').getBBox().height,"
        "  fills: [...svg.querySelectorAll('path')].map(path => getComputedStyle(path).fill)}))"
    )
    assert len(plots) == 3 + 1 + 2 * 5
    for plot in plots:
        assert plot["box"]["width"] > 250
        assert plot["box"]["height"] > 80
        assert plot["ink"] == {"light": "rgb(29, 35, 48)", "dark": "rgb(230, 233, 239)"}[scheme]
        assert set(plot["fills"]) - {"none", "rgb(0, 0, 0)", plot["ink"]}, f"{plot['name']}: nothing is drawn"


def test_samples_are_gone_through_by_keyboard(browser, pages):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    opened(browser, pages["root"])
    samples = browser.find_elements(By.CSS_SELECTOR, "article.sample")
    assert len(samples) == 8

    def shown():
        return [index for index, sample in enumerate(samples) if sample.is_displayed()]

    def press(*keys):
        ActionChains(browser).send_keys(*keys).perform()

    assert shown() == [0]
    for _ in range(60):  # with Tab alone, from the top of the page
        press(Keys.TAB)
        if browser.switch_to.active_element.get_attribute("id") == "browser":
            break
    assert browser.switch_to.active_element.get_attribute("id") == "browser"
    outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "where the keyboard is cannot be seen"
    press(Keys.ARROW_RIGHT)
    assert shown() == [1]
    press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert shown() == [0]
    press(Keys.END, Keys.ARROW_RIGHT)
    assert shown() == [7]
    assert browser.find_element(By.ID, "told").text == "8 of 8"
    press(Keys.HOME)
    assert shown() == [0]
    press(Keys.TAB, Keys.TAB, Keys.ENTER)  # the button that goes on
    assert browser.switch_to.active_element.get_attribute("id") == "next"
    assert shown() == [1]
    press(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("id") == "menu"
    press(Keys.ARROW_DOWN)
    assert shown() == [2]
    browser.find_element(By.ID, "previous").click()
    assert shown() == [1]


def test_hostile_text_is_shown_and_trained_text_stands_out(browser, pages):
    from selenium.webdriver.common.by import By

    opened(browser, pages["root"])
    sample = browser.find_element(By.CSS_SELECTOR, "article.sample:not([hidden])")
    assert HOSTILE in sample.text.replace("↵", "")
    trained, context = (sample.find_element(By.CSS_SELECTOR, selector) for selector in ("mark.part", "span.part"))
    assert trained.text.startswith("<QUE>")
    assert "<CON>" in context.text
    borders = [float(each.value_of_css_property("border-left-width")[:-2]) for each in (trained, context)]
    assert borders[0] >= 3 * borders[1], "told apart by colour alone"
    assert trained.value_of_css_property("background-color") != context.value_of_css_property("background-color")


def test_without_its_script_all_samples_are_there(browser, pages):
    from selenium.webdriver.common.by import By

    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(pages["root"])
        assert all(each.is_displayed() for each in browser.find_elements(By.CSS_SELECTOR, "article.sample"))
        assert not browser.find_element(By.ID, "bar").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_letters_stand_out_from_what_is_behind(browser, pages):
    """A contrast of at least 4.5 (WCAG 2 AA) for all colours of text, in both schemes."""
    names = ("ink", "soft", "link", "mark")
    for scheme in ("light", "dark"):
        opened(browser, pages["root"], scheme=scheme)
        value = "return getComputedStyle(document.documentElement).getPropertyValue(arguments[0]).trim()"
        colour = {name: browser.execute_script(value, f"--{name}") for name in (*names, "back", "card", "trained-back")}
        for name in names:
            for behind in ("back", "card", "trained-back"):
                assert contrast(colour[name], colour[behind]) >= 4.5, (scheme, name, behind)


def contrast(one, other):
    """As WCAG 2 defines it."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@needs_collection
def test_the_page_of_five_real_datasets_opens_in_a_second(browser, tmp_path):
    """And is under 3 MB. Of three times it is opened the quickest counts: the machine may have other work."""
    names = ("squad", "QED", "PubMedQA_no_opt", "AQUA_RAT_yes_opt", "WikiTableQuestions")
    run(Recipe(datasets=names, tokenizer="llama3", source=COLLECTION, output=tmp_path / "out", max_dropped=1.0))
    made = report(tmp_path / "out", tmp_path / "page.html")
    assert made.datasets == tuple(sorted(names))
    assert made.bytes < 3_000_000
    times = []
    for _ in range(3):
        console, asked = opened(browser, (tmp_path / "page.html").as_uri())
        assert (console, asked) == ([], set())
        times.append(browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd"))
    assert min(times) < 1000, times
