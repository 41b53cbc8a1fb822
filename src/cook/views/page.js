"use strict";
// Shows one sample at a time, by buttons, a menu, or the arrow keys; without this script all of them are on the page.
(() => {
  const browser = document.getElementById("browser");
  if (!browser) return;
  const samples = [...browser.querySelectorAll(".sample")];
  const menu = document.getElementById("menu");
  const told = document.getElementById("told");
  let at = 0;

  const go = (index) => {
    at = Math.min(samples.length - 1, Math.max(0, index));
    samples.forEach((sample, i) => { sample.hidden = i !== at; });
    menu.selectedIndex = at;
    if (browser.getBoundingClientRect().top < 0) browser.scrollIntoView();
    told.textContent = `${at + 1} of ${samples.length}`;
  };

  document.getElementById("previous").addEventListener("click", () => go(at - 1));
  document.getElementById("next").addEventListener("click", () => go(at + 1));
  menu.addEventListener("change", () => go(menu.selectedIndex));
  browser.addEventListener("keydown", (event) => {
    if (event.target === menu || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: samples.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(to);
  });
  document.getElementById("bar").hidden = false;
  go(0);
})();
