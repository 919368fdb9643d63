// A citation opens its passage, also one in the closed rest of the list; answers can be copied, questions edited and
// conversations saved; a growing answer stays in view while the reader is at its end.
addEventListener("click", (event) => {
  const link = event.target.closest?.("a.citation");
  const source = link && document.getElementById(link.hash.slice(1));
  if (!source) return;
  event.preventDefault();
  source.closest("details.more")?.setAttribute("open", "");
  source.open = true;
  source.querySelector("summary").focus({ preventScroll: true });
  source.scrollIntoView({ block: "nearest", behavior: "smooth" });
});

addEventListener("click", async ({ target }) => {
  const button = target.closest?.("button");
  if (button?.matches(".copy")) {
    await navigator.clipboard.writeText(button.closest(".answer").querySelector(".text").innerText);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  } else if (button?.matches(".edit")) {
    const box = document.querySelector("#question textarea");
    box.value = button.closest(".turn").querySelector(".question").innerText;
    box.dispatchEvent(new Event("input", { bubbles: true }));
    box.focus();
  } else if (button?.closest("#save")) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([transcript()], { type: "text/markdown" }));
    link.download = "conversation.md";
    link.click();
    URL.revokeObjectURL(link.href);
  }
});

function transcript() {
  const lines = [];
  for (const turn of document.querySelectorAll(".turn")) {
    lines.push(`## ${turn.querySelector(".question").innerText}`, "");
    for (const reply of turn.querySelectorAll(".reply")) {
      lines.push(reply.querySelector(".text, .error")?.innerText ?? "", "");
      for (const link of reply.querySelectorAll("a.citation")) {
        const place = document.getElementById(link.hash.slice(1)).querySelector(".place").textContent;
        lines.push(`- ${link.innerText.replace(/\s+/, ". ")} (${place})`);
      }
      lines.push("");
    }
  }
  return lines.join("\n");
}

let following = true;
const page = document.documentElement;
addEventListener("scroll", () => (following = innerHeight + scrollY > page.scrollHeight - 80), { passive: true });
new MutationObserver((changes) => {
  const growing = document.querySelector("#current .turn");
  if (!growing || !changes.some(({ target }) => document.getElementById("current").contains(target))) return;
  const asked = changes.some(({ addedNodes }) => [...addedNodes].some((node) => node.classList?.contains("turn")));
  if (asked || following) scrollTo({ top: page.scrollHeight });
}).observe(page, { childList: true, subtree: true, characterData: true });
