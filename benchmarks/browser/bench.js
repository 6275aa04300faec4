// The page of bench_browser.py: hands the cases to a worker, as the viewer does, and keeps what
// it answers where the script finds it.

const worker = new Worker(new URL("./cases.js", import.meta.url), { type: "module" });
worker.onerror = (event) => {
  document.title = `failed: ${event.message}`;
};
worker.onmessage = ({ data }) => {
  if (data.step) document.title = data.step;
  else {
    globalThis.found = data;
    document.title = data.error ? `failed: ${data.error}` : "done";
  }
};
