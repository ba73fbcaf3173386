// Shared by the live board and the page of an emergency. Text is only ever inserted as text.

const SVG = "http://www.w3.org/2000/svg";

// As in the pages of the server (printable.py): what would turn the direction of the text around it.
const TURNING = /[\u202a-\u202e\u2066-\u2069]/g;

export const read = (id) => JSON.parse(document.getElementById(id).textContent);

export function make(tag, { cls, text, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  return finish(element, cls, text, attributes, children);
}

export function draw(tag, { cls, text, ...attributes } = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  return finish(element, cls, text, attributes, children);
}

function finish(element, cls, text, attributes, children) {
  if (cls) element.setAttribute("class", cls);
  if (text !== undefined && text !== null) element.textContent = String(text).replace(TURNING, "");
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export const spaced = (name) => (name ?? "").replace(/[A-Z]/g, (c) => ` ${c.toLowerCase()}`).replace(/_/g, " ");

export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 3600) return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")}`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

// In UTC, like every time that the server writes on these pages.
export const clock = (at) => new Date(at).toISOString().slice(11, 19);

// Shows whether the screen is current. Screen readers skip the seconds, which change all the time.
export function showState(element, state, retryAt) {
  const text = {
    connecting: "Connecting …",
    live: "Live",
    gone: "Connection lost: what you see may be old.",
    ended: "Signed out: reload the page to sign in again",
  }[state];
  const seconds = make("span", { "aria-hidden": "true" });
  if (state === "gone") seconds.textContent = ` Trying again in ${Math.max(1, Math.round((retryAt - Date.now()) / 1000))} s`;
  const isNew = element.dataset.state !== state;
  element.dataset.state = state;
  if (isNew) element.replaceChildren(text, seconds);
  else element.lastElementChild?.replaceWith(seconds);
}
