/** The page inside of another one, such as a notebook. */

/** Tells who holds the frame how tall its content is, whenever that changes. */
export function fitFrame() {
  if (window.parent === window) {
    return;
  }
  // heights that are parts of the window's would grow with it
  document.documentElement.classList.add("framed");
  new ResizeObserver(() => {
    const { height } = document.body.getBoundingClientRect();
    window.parent.postMessage({ captumPairsHeight: height }, "*");
  }).observe(document.body);
}
