// A citation opens its passage; a growing answer stays in view while the reader is at its end.
addEventListener("click", (event) => {
  const link = event.target.closest?.("a.citation");
  const source = link && document.getElementById(link.hash.slice(1));
  if (!source) return;
  event.preventDefault();
  source.open = true;
  source.querySelector("summary").focus({ preventScroll: true });
  source.scrollIntoView({ block: "nearest", behavior: "smooth" });
});

let following = true;
const page = document.documentElement;
addEventListener("scroll", () => (following = innerHeight + scrollY > page.scrollHeight - 80), { passive: true });
new MutationObserver((changes) => {
  const growing = document.querySelector("#current .turn");
  if (!growing || !changes.some(({ target }) => document.getElementById("current").contains(target))) return;
  const asked = changes.some(({ addedNodes }) => [...addedNodes].some((node) => node.classList?.contains("turn")));
  if (asked || following) scrollTo({ top: page.scrollHeight });
}).observe(page, { childList: true, subtree: true, characterData: true });
