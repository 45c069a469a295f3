// Without this file everything works, and shows what was so when the page was asked for.
(() => {
  "use strict";
  const regions = () => document.querySelectorAll("[data-live]");
  if (!regions().length) return;

  const every = 3000; // milliseconds
  let live = localStorage.getItem("live") !== "off";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "live";
  const say = () => {
    button.setAttribute("aria-pressed", String(live));
    button.textContent = live ? "Live" : "Paused";
    button.title = live ? "Asked anew every 3 seconds; click to pause" : "Click to go on";
  };
  button.addEventListener("click", () => {
    live = !live;
    localStorage.setItem("live", live ? "on" : "off");
    say();
    if (live) refresh();
  });
  say();
  document.querySelector(".top .inner").append(button);

  const busy = (region) => region.contains(document.activeElement) || !getSelection().isCollapsed;

  async function refresh() {
    if (!live || document.hidden) return;
    try {
      const answer = await fetch(location.href.split("#")[0], { headers: { Accept: "text/html" } });
      if (!answer.ok) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const region of regions()) {
        const found = fresh.querySelector(`[data-live="${region.dataset.live}"]`);
        if (found && !busy(region) && found.innerHTML !== region.innerHTML) region.innerHTML = found.innerHTML;
      }
      document.title = fresh.title;
      button.classList.remove("lost");
    } catch {
      button.classList.add("lost");
      button.textContent = "No answer";
      return;
    }
    say();
  }
  setInterval(refresh, every);
})();
