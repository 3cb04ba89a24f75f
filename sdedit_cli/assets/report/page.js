
"use strict";
(() => {
  const id = name => document.getElementById(name);
  const jobs = [...document.querySelectorAll(".job")];
  const buttons = [...document.querySelectorAll("button[data-state]")];
  const text = id("text");
  const words = new Map();
  let current = null;

  document.documentElement.classList.add("scripted");
  for (const hidden of [id("filter"), id("keys"), ...document.querySelectorAll("input[type=range]")]) {
    hidden.hidden = false;
  }
  id("summary").hidden = true;

  const wordsOf = job => {
    if (!words.has(job)) words.set(job, job.textContent.toLowerCase());
    return words.get(job);
  };

  const filter = () => {
    const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const states = new Set(buttons.filter(one => one.ariaPressed === "true").map(one => one.dataset.state));
    let shown = 0;
    for (const job of jobs) {
      const fits = (!states.size || states.has(job.dataset.state)) && wanted.every(word => wordsOf(job).includes(word));
      job.hidden = !fits;
      shown += fits;
    }
    if (current && current.hidden) choose(null);
    id("none").hidden = shown > 0;
    id("shown").textContent = shown === jobs.length ? "" : `${shown} of ${jobs.length}`;
  };

  const choose = job => {
    if (current) current.classList.remove("current");
    current = job;
    if (!job) return;
    job.classList.add("current");
    job.focus({ preventScroll: true });
    job.scrollIntoView({ block: "nearest" });
  };

  const go = by => {
    const shown = jobs.filter(job => !job.hidden);
    const at = shown.indexOf(current);
    const next = at < 0 ? (by > 0 ? 0 : shown.length - 1) : Math.min(Math.max(at + by, 0), shown.length - 1);
    if (shown.length) choose(shown[next]);
  };

  const place = range => range.parentElement.style.setProperty("--at", `${range.value}%`);

  const slide = by => {
    const range = current && current.querySelector("input[type=range]");
    if (!range) return;
    range.value = Number(range.value) + by;
    place(range);
  };

  const everything = () => {
    text.value = "";
    for (const button of buttons) button.ariaPressed = "false";
    filter();
    text.blur();
  };

  const keys = {
    j: () => go(1), ArrowDown: () => go(1), k: () => go(-1), ArrowUp: () => go(-1),
    ArrowLeft: () => slide(-5), ArrowRight: () => slide(5),
    "/": () => { text.focus(); text.select(); }, Escape: everything,
  };

  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target === text;
    if (typing && event.key === "Enter") return event.preventDefault();
    if (!Object.hasOwn(keys, event.key) || (typing && !["Escape", "ArrowDown"].includes(event.key))) return;
    event.preventDefault();
    keys[event.key]();
  });
  document.addEventListener("input", event => {
    if (event.target.type === "range") place(event.target);
    if (event.target === text) filter();
  });
  document.addEventListener("focusin", event => {
    const job = event.target.closest(".job");
    if (!job || job === current) return;
    if (current) current.classList.remove("current");
    current = job;
    job.classList.add("current");
  });
  for (const button of buttons) {
    button.addEventListener("click", () => {
      button.ariaPressed = button.ariaPressed === "true" ? "false" : "true";
      filter();
    });
  }
  // A browser that goes back keeps what was typed.
  for (const range of document.querySelectorAll("input[type=range]")) place(range);
  filter();
})();
