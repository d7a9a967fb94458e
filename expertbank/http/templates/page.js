// Without this the page works the same; with it an answer comes without loading the page anew.
(() => {
  "use strict";
  const form = document.querySelector("form");
  const place = document.getElementById("answer");
  const button = form.querySelector("button");

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true");
    place.setAttribute("aria-busy", "true");
    try {
      const reply = await fetch(location.pathname, {
        method: "POST",
        body: new URLSearchParams(new FormData(form)),
      });
      const page = new DOMParser().parseFromString(await reply.text(), "text/html");
      place.replaceChildren(...page.getElementById("answer").childNodes);
      place.focus({ preventScroll: true });
      place.scrollIntoView({ block: "nearest" });
    } catch {
      form.submit(); // The browser's own way says what is wrong.
    } finally {
      button.removeAttribute("aria-disabled");
      place.removeAttribute("aria-busy");
    }
  });

  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });

  const live = async () => {
    if (document.hidden) return;
    try {
      const figures = await (await fetch("live", { cache: "no-store" })).json();
      for (const [name, text] of Object.entries(figures)) {
        const shown = document.querySelector(`[data-live="${name}"]`);
        if (shown && shown.textContent !== text) shown.textContent = text;
      }
    } catch {
      // The server is away: the figures stay as they were.
    }
  };
  setInterval(live, 3000);
})();
