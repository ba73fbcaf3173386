// Keyboard access where unfold has only the mouse: everything clickable can be focused, pressed and left, and
// screen readers skip the names of symbols.
"use strict";

// The labels of buttons that are only an icon; their text is the name of a symbol.
const SAID = { dock_to_right: "Navigation", close: "Close the navigation", more_vert: "More", computer: "Colours" };
const FILTERS_CLOSE = "#changelist-filter-close";
const OPENED_MS = 50;
let opener = null; // of what the keyboard has opened last

function isForTheMouseOnly(element) {
  return element.hasAttribute("x-on:click") && !element.matches(`a[href], button, input, select, ${FILTERS_CLOSE}`);
}

function makeAButton(element) {
  element.tabIndex = 0;
  element.setAttribute("role", "button");
  const said = SAID[element.textContent.trim()];
  if (said) element.setAttribute("aria-label", said);
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    element.click();
    opener = element;
    enterWhatItOpened(element);
  });
}

// The filters open at the other end of the page, and the menu of the account before its opener.
function enterWhatItOpened(element) {
  const isForFilters = element.getAttribute("x-on:click").startsWith("filterOpen");
  const place = isForFilters ? document.getElementById("changelist-filter") : element.previousElementSibling;
  const first = place?.querySelector(":is(input, select, a[href], a[tabindex]):not([type=hidden])");
  setTimeout(() => first?.checkVisibility() && first.focus(), OPENED_MS);
}

// An open menu closes on a click beside it; the focus returns to where it was.
function leave(event) {
  if (event.key !== "Escape") return;
  const close = document.querySelector(FILTERS_CLOSE);
  (close?.checkVisibility() ? close : document.body).click();
  opener?.focus();
  opener = null;
}

function isDecoration(symbol) {
  return symbol.parentElement.textContent.trim() !== symbol.textContent.trim();
}

function offerToSkip() {
  const link = document.createElement("a");
  link.className = "hp-skip";
  link.href = "#content";
  link.textContent = "Skip the navigation";
  document.body.prepend(link);
}

document.addEventListener("keydown", leave);
document.addEventListener("DOMContentLoaded", () => {
  [...document.querySelectorAll("*")].filter(isForTheMouseOnly).forEach(makeAButton);
  const symbols = [...document.querySelectorAll(".material-symbols-outlined:not([role])")];
  for (const symbol of symbols.filter(isDecoration)) symbol.setAttribute("aria-hidden", "true");
  if (document.getElementById("content")) offerToSkip();
});
