"use strict";
const cells = [...document.querySelectorAll("button.cell")];
const view = document.getElementById("view");
let at = 0;

function show(number) {
  at = (number + cells.length) % cells.length;
  const cell = cells[at], image = cell.querySelector("img"), large = document.getElementById("large");
  const before = cell.closest("section").querySelector(".input img"), small = document.getElementById("before");
  for (const [to, from] of [[large, image], [small, before]]) {
    to.src = from.src;
    to.className = from.className;
  }
  document.getElementById("label").textContent = cell.dataset.label;
  document.getElementById("facts").textContent = cell.dataset.facts;
  document.getElementById("command").textContent = cell.dataset.command;
  if (!view.open) view.showModal();
}

cells.forEach((cell, number) => cell.addEventListener("click", () => show(number)));
document.getElementById("next").addEventListener("click", () => show(at + 1));
document.getElementById("previous").addEventListener("click", () => show(at - 1));
document.getElementById("close").addEventListener("click", () => view.close());
view.addEventListener("close", () => cells[at] && cells[at].focus());
view.addEventListener("click", event => { if (event.target === view) view.close(); });
view.addEventListener("keydown", event => {
  if (event.key === "ArrowRight") show(at + 1);
  if (event.key === "ArrowLeft") show(at - 1);
});
if (location.hash.startsWith("#") && cells[location.hash.slice(1) - 1]) show(location.hash.slice(1) - 1);
