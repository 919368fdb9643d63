// What the page does without the server, and clicks in a conversation, which is plain HTML, that need it.
const page = document.documentElement;
window.ragx = { place: "" }; // read by hidden buttons: which answer or source was clicked

function serve(name, place = "") {
  window.ragx.place = place;
  document.getElementById(`do-${name}`).click();
}

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
    await navigator.clipboard.writeText(answerText(button.closest(".answer")));
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  } else if (button?.matches(".edit")) {
    const box = document.querySelector("#question textarea");
    box.value = button.closest(".turn").querySelector(".question").innerText;
    box.dispatchEvent(new Event("input", { bubbles: true }));
    box.focus();
  } else if (button?.matches(".again")) {
    serve("again");
  } else if (button?.matches(".rate")) {
    const rates = button.parentElement.querySelectorAll(".rate");
    for (const each of rates) each.setAttribute("aria-pressed", each === button);
    serve(button.matches(".good") ? "good" : "bad", button.dataset.at);
  } else if (button?.matches(".page")) {
    serve("page", button.dataset.at);
  } else if (button?.closest("#save")) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([transcript()], { type: "text/markdown" }));
    link.download = "conversation.md";
    link.click();
    URL.revokeObjectURL(link.href);
  }
});

// deleting takes a second click
addEventListener(
  "click",
  (event) => {
    const button = document.getElementById("delete-chat");
    const sure = button?.dataset.sure;
    if (sure) {
      button.textContent = sure;
      delete button.dataset.sure;
    } else if (button?.contains(event.target)) {
      event.stopPropagation();
      button.dataset.sure = button.textContent;
      button.textContent = "Delete it for good?";
    }
  },
  true,
);

// another tab has changed the conversations: take them over, unless something is going on here
addEventListener("storage", ({ key }) => {
  const isIdle = !document.querySelector("#current .turn") && !document.querySelector("#question textarea").value;
  if (key === "ragx-chat" && isIdle) location.reload();
});

function answerText(answer) {
  const text = answer.querySelector(".text, .error");
  for (const mark of text?.querySelectorAll(".mark") ?? []) mark.hidden = true;
  const words = text?.innerText ?? "";
  for (const mark of text?.querySelectorAll(".mark") ?? []) mark.hidden = false;
  return words;
}

function transcript() {
  const lines = [];
  for (const turn of document.querySelectorAll(".turn")) {
    lines.push(`## ${turn.querySelector(".question").innerText}`, "");
    for (const reply of turn.querySelectorAll(".reply")) {
      lines.push(answerText(reply.querySelector(".answer")), "");
      for (const link of reply.querySelectorAll(".citations a.citation")) {
        const place = document.getElementById(link.hash.slice(1)).querySelector(".place").firstChild.textContent;
        lines.push(`- ${link.innerText.replace(/\s+/, ". ")} (${place})`);
      }
      lines.push("");
    }
  }
  return lines.join("\n");
}

// seconds that a question has waited
let asked = 0;
let answering = false;
setInterval(() => {
  const waiting = document.querySelector("#current .waiting");
  if (waiting) waiting.dataset.seconds = `${Math.round((Date.now() - asked) / 1000)} s`;
}, 1000);

let following = true;
addEventListener("scroll", () => (following = innerHeight + scrollY > page.scrollHeight - 80), { passive: true });
new MutationObserver((changes) => {
  const dialog = document.querySelector("dialog.page-view:not([open])");
  if (dialog && !dialog.dataset.shown) {
    dialog.dataset.shown = "yes";
    dialog.showModal();
  }
  const isNew = !answering;
  answering = document.querySelector("#current .turn") !== null;
  if (!answering || !changes.some(({ target }) => document.getElementById("current").contains(target))) return;
  if (isNew) asked = Date.now();
  if (isNew || following) scrollTo({ top: page.scrollHeight });
}).observe(page, { childList: true, subtree: true, characterData: true });
