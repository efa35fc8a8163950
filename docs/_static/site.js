/* A page to explore says how tall it is; tables that scroll can be reached by keys. */
addEventListener("message", ({ data, source }) => {
  const height = data && data.captumPairsHeight;
  if (typeof height !== "number" || !(height > 0 && height < 20000)) return;
  for (const frame of document.querySelectorAll("iframe.explore")) {
    if (frame.contentWindow === source) frame.style.height = `${Math.ceil(height)}px`;
  }
});
addEventListener("DOMContentLoaded", () => {
  // what the theme leaves unsaid to screen readers
  for (const heading of document.querySelectorAll(".caption[role=heading]")) {
    heading.setAttribute("aria-level", "2");
  }
  document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "All pages");
  document.querySelector(".toc-drawer")?.setAttribute("aria-label", "On this page");
  // the corner of a table heads nothing
  for (const corner of document.querySelectorAll("th")) {
    if (!corner.textContent.trim()) corner.setAttribute("role", "cell");
  }
  for (const box of document.querySelectorAll(".table-wrapper, .highlight pre, .math")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
});
