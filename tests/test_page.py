import pytest

from embarchive import page
from embarchive.errors import BadInput

STRICT = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'"


def entry(content, quote='"'):
    return f"<meta http-equiv={quote}Content-Security-Policy{quote}\n content={content}>".encode()


@pytest.mark.parametrize(
    "text",
    [entry(f'"{STRICT}"'), entry(f'"{STRICT};"'), entry(f'"\n {STRICT}  "'),
     entry(f'"{STRICT}"', "'"), entry('"' + STRICT.replace("'", "&#39;") + '"'),
     b"<p>first<meta charset=utf-8>" + entry(f'"{STRICT}"').lower()],
)  # fmt: skip
def test_the_policy_is_the_pages_own_and_forbids_frames(text):
    assert page.policy_of(text) == f"{STRICT}; frame-ancestors 'none'"


@pytest.mark.parametrize("text", [b"", b"<p>no policy", b"\xff\xfe", entry('""')])
def test_a_page_without_a_policy_gets_one(text):
    assert page.policy_of(text).startswith("default-src 'self'; ")


def test_a_policy_cannot_end_its_header():
    found = page.policy_of(entry('"default-src *\r\nset-cookie: a=b\u2028\u00e9"'))
    assert found == "default-src * set-cookie: a=b; frame-ancestors 'none'"


def test_the_page_is_all_files_below_viewer_but_hidden_ones(tmp_path):
    (tmp_path / "viewer" / "vendor").mkdir(parents=True)
    others = (".hidden", "vendor/.b.js.swp", "vendor/a.d.ts", "../package.json")
    for name in ("index.html", "vendor/a.js", *others):
        (tmp_path / "viewer" / name).write_bytes(name.encode())
    assert page.read_page(tmp_path) == {
        "viewer/index.html": b"index.html",
        "viewer/vendor/a.js": b"vendor/a.js",
    }


def test_a_package_without_the_page_says_so_in_one_line(monkeypatch):
    monkeypatch.setattr(page, "find_page", lambda: None)
    with pytest.raises(BadInput, match=r"the page: expected viewer/index.html .* found neither"):
        page.read_page()
