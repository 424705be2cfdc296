// @ts-check
// The page: its theme, its figures, and the choice between figures of several methods.
"use strict";

const themeButton = /** @type {HTMLButtonElement} */ (document.querySelector("[data-control=theme]"));

function isDark() { return document.documentElement.dataset.theme === "dark"; }

function nameThemeButton() {
  themeButton.textContent = isDark() ? "Light" : "Dark";
  themeButton.setAttribute("aria-label", `Show the page in ${isDark() ? "light" : "dark"} colours`);
}

/** @param {"light" | "dark"} theme */
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  nameThemeButton();
  drawn.forEach(plot => draw(plot));
  document.dispatchEvent(new Event("dvme-theme"));
}

const PAPER = 660; // CSS pixels that A4 and Letter have between their margins
/** @type {Set<HTMLElement>} */
const drawn = new Set();

/**
 * A figure is drawn when it comes near the screen, so that the first screen does not wait for the others.
 * @param {HTMLElement} plot
 * @param {boolean} isDarkWanted
 * @param {number} [width] CSS pixels; as wide as its place if none is given
 */
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
  const plots = [.../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".plot"))];
  const watcher = new IntersectionObserver(entries => entries.forEach(entry => {
    const plot = /** @type {HTMLElement} */ (entry.target);
    if (entry.isIntersecting && !drawn.has(plot)) { watcher.unobserve(plot); draw(plot); }
  }), {rootMargin: "400px"});
  plots.forEach(plot => watcher.observe(plot));
  const drawAll = (isDarkWanted = isDark(), width = undefined) =>
    plots.filter(plot => plot.offsetParent).forEach(plot => draw(plot, isDarkWanted, width));
  /** @type {HTMLDetailsElement[]} */
  let opened = [];
  window.addEventListener("beforeprint", () => { // paper has no legend to click and nothing to unfold
    opened = [.../** @type {NodeListOf<HTMLDetailsElement>} */ (document.querySelectorAll("details:not([open])"))];
    opened.forEach(part => { part.open = true; });
    drawAll(false, PAPER);
  });
  window.addEventListener("afterprint", () => { opened.forEach(part => { part.open = false; }); drawAll(); });
}

function startChoices() {
  for (const choice of /** @type {NodeListOf<HTMLSelectElement>} */ (document.querySelectorAll("[data-choice]"))) {
    const named = document.querySelectorAll(`[data-part="${choice.dataset.choice}"]`);
    const parts = [.../** @type {NodeListOf<HTMLElement>} */ (named)];
    const show = () => parts.forEach(part => { part.hidden = part.dataset.value !== choice.value; });
    choice.onchange = () => { show(); window.dispatchEvent(new Event("resize")); };
    show();
  }
}

themeButton.onclick = () => setTheme(isDark() ? "light" : "dark");
nameThemeButton();
startChoices();
