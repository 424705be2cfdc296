// The page: its theme, its figures, and the choice between figures of several methods.
"use strict";

function isDark() { return document.documentElement.dataset.theme === "dark"; }

function nameThemeButton() {
  const button = document.querySelector("[data-control=theme]"), other = isDark() ? "light" : "dark";
  button.textContent = isDark() ? "Light" : "Dark";
  button.setAttribute("aria-label", `Show the page in ${other} colours`);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  nameThemeButton();
  drawn.forEach(plot => draw(plot));
  document.dispatchEvent(new Event("dvme-theme"));
}

const PAPER = 660; // CSS pixels that A4 and Letter have between their margins
const drawn = new Set();

// A figure is drawn when it comes near the screen, so that the first screen does not wait for the others.
function draw(plot, isDarkWanted = isDark(), width = undefined) {
  const {templates} = window.dvme, figure = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
  const layout = {...figure.layout, template: templates[isDarkWanted ? "dark" : "light"], autosize: !width};
  if (width) layout.width = width; else delete layout.width;
  drawn.add(plot);
  return Plotly.react(plot, figure.data, layout, {displaylogo: false, responsive: true,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: {format: "svg", filename: plot.dataset.name}});
}

function startFigures() {
  const plots = [...document.querySelectorAll(".plot")];
  const watcher = new IntersectionObserver(entries => entries.forEach(entry => {
    if (entry.isIntersecting && !drawn.has(entry.target)) { watcher.unobserve(entry.target); draw(entry.target); }
  }), {rootMargin: "400px"});
  plots.forEach(plot => watcher.observe(plot));
  const drawAll = (...how) => plots.filter(plot => plot.offsetParent).forEach(plot => draw(plot, ...how));
  let opened = [];
  window.addEventListener("beforeprint", () => { // paper has no legend to click and nothing to unfold
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach(part => { part.open = true; });
    drawAll(false, PAPER);
  });
  window.addEventListener("afterprint", () => { opened.forEach(part => { part.open = false; }); drawAll(); });
}

function startChoices() {
  for (const choice of document.querySelectorAll("[data-choice]")) {
    const parts = [...document.querySelectorAll(`[data-part="${choice.dataset.choice}"]`)];
    const show = () => parts.forEach(part => { part.hidden = part.dataset.value !== choice.value; });
    choice.onchange = () => { show(); window.dispatchEvent(new Event("resize")); };
    show();
  }
}

document.querySelector("[data-control=theme]").onclick = () => setTheme(isDark() ? "light" : "dark");
nameThemeButton();
startChoices();
