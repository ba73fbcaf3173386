// The page of one emergency: the map with its replay, the trend, the dialogs, and live updates.

import { news2Chart } from "./charts.js";
import { Live } from "./live.js";
import { fit, line, makeMap, mark } from "./map.js";
import { clock, duration, read, showState } from "./page.js";

const REFRESH_DELAY_MS = 300;
const PLAY_STEP_MS = 100;
const PLAY_STEPS = 120; // a whole emergency passes by in twelve seconds

const data = read("emergency-data");
const start = Date.parse(data.requestedAt);

// Waiting time, counting up while it is open

function tick() {
  const waited = document.querySelector("#hp-waited[data-open]");
  if (waited) waited.textContent = duration((Date.now() - start) / 1000);
}

// The trend

function showTrend(scores) {
  const place = document.getElementById("hp-trend");
  if (scores.length) place.replaceChildren(news2Chart(scores, place.clientWidth));
}

// The map: positions at the time of the slider

const map = makeMap(document.getElementById("hp-map"), data.tileUrl, data.scene);
mark(map, data.scene, { cls: "hp-scene", sign: "!", label: "here" });
const tracks = new Map(); // userId → {steps, path, marker}
for (const [userId, at, lat, lng] of data.positions) addStep(userId, { at, place: [lat, lng] });
for (const track of tracks.values()) track.path.setLatLngs(track.steps.map((step) => step.place));
fit(map, [data.scene, ...data.positions.map(([, , lat, lng]) => [lat, lng])]);

function addStep(userId, step) {
  const label = data.names[userId] ?? userId;
  if (!tracks.has(userId)) {
    const marker = mark(map, step.place, { cls: "hp-unit", sign: "+", label });
    tracks.set(userId, { steps: [], path: line(map, []), marker });
  }
  tracks.get(userId).steps.push(step);
}

const slider = document.getElementById("hp-replay");
const shownTime = document.getElementById("hp-replay-time");
const play = document.getElementById("hp-play");
let playing = null;

function placeAt({ steps }, at) {
  const next = steps.findIndex((step) => step.at > at);
  if (next === -1) return steps.at(-1).place;
  if (next === 0) return steps[0].place;
  const [from, to] = [steps[next - 1], steps[next]];
  const share = (at - from.at) / (to.at - from.at);
  return from.place.map((value, i) => value + (to.place[i] - value) * share);
}

function replay() {
  const at = Number(slider.value);
  for (const track of tracks.values()) track.marker.setLatLng(placeAt(track, at));
  shownTime.textContent = `${clock(at)} UTC (${duration((at - start) / 1000)} after the call)`;
  slider.setAttribute("aria-valuetext", shownTime.textContent);
  markStory(at);
}

function markStory(at) {
  for (const event of document.querySelectorAll("#hp-timeline [data-at]")) {
    event.classList.toggle("hp-later", Date.parse(event.dataset.at) > at);
  }
}

function setUpReplay() {
  const times = [...tracks.values()].flatMap(({ steps }) => steps.map((step) => step.at));
  document.getElementById("hp-replay-box").hidden = !times.length;
  if (!times.length) return;
  const wasAtTheEnd = slider.value === slider.max;
  slider.min = Math.min(start, ...times);
  slider.max = Math.max(...times);
  if (wasAtTheEnd) {
    slider.value = slider.max;
    for (const { steps, marker } of tracks.values()) marker.setLatLng(steps.at(-1).place);
    shownTime.textContent = `${clock(Number(slider.max))} UTC`;
  }
}

function hear({ userId, data: { location, emergencyId } }) {
  if (emergencyId !== data.emergencyId) return;
  const place = [location.lat, location.lng];
  addStep(userId, { at: Date.parse(location.receivedAt), place });
  const track = tracks.get(userId);
  track.path.addLatLng(place);
  setUpReplay();
}

function begin() {
  if (Number(slider.value) >= Number(slider.max)) slider.value = slider.min;
  play.textContent = "Pause";
  let at = Number(slider.value);
  playing = setInterval(() => {
    at += (slider.max - slider.min) / PLAY_STEPS;
    slider.value = at;
    replay();
    if (at >= slider.max) stop();
  }, PLAY_STEP_MS);
}

function stop() {
  clearInterval(playing);
  playing = null;
  play.textContent = "Play";
}

// Dialogs: every action asks for confirmation

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog]");
  if (opener) document.getElementById(opener.dataset.dialog).showModal();
  event.target.closest("[data-close]")?.closest("dialog").close();
  if (event.target.closest("#hp-print")) window.print();
});

// Updates: fetch the same page and replace its parts. The server has escaped them, and no script in them runs.

let refreshTimer = null;

// What has not changed stays, so that no button vanishes while it is pressed.
function replacePart(shown, fresh) {
  if (withoutTokens(shown).isEqualNode(withoutTokens(fresh))) return;
  const focused = shown.contains(document.activeElement) && document.activeElement.dataset.dialog;
  shown.replaceWith(document.adoptNode(fresh));
  if (focused) document.querySelector(`[data-dialog="${focused}"]`)?.focus();
}

// The token of a form is another one in each answer.
function withoutTokens(part) {
  const copy = part.cloneNode(true);
  copy.querySelectorAll("[name=csrfmiddlewaretoken]").forEach((each) => each.remove());
  return copy;
}

async function refresh() {
  try {
    const answer = await fetch(location.href);
    if (!answer.ok || answer.redirected) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["hp-head", "hp-actions", "hp-timeline"]) {
      if (id === "hp-actions" && document.querySelector("dialog[open]")) continue;
      replacePart(document.getElementById(id), fresh.getElementById(id));
    }
    showTrend(JSON.parse(fresh.getElementById("emergency-data").textContent).scores);
  } catch (unreachable) {
    console.info("The page could not be read; it will be tried again.", unreachable);
  } finally {
    refreshTimer = null;
  }
}

showTrend(data.scores);
slider.addEventListener("input", replay);
play.addEventListener("click", () => (playing ? stop() : begin()));
setUpReplay();
setInterval(tick, 1000);
const state = document.getElementById("hp-state");
let link = {};
setInterval(() => link.state === "gone" && showState(state, link.state, link.retryAt), 1000);
new Live({
  hospitalId: data.hospitalId,
  emergencyId: data.emergencyId,
  onState: (now, retryAt) => {
    link = { state: now, retryAt };
    showState(state, now, retryAt);
  },
  onReady: () => (refreshTimer ??= setTimeout(refresh, REFRESH_DELAY_MS)),
  onFrame: (frame) => {
    if (frame.type === "locationUpdate") hear(frame);
    if (frame.type === "boardChanged" && frame.emergencyId === data.emergencyId) {
      refreshTimer ??= setTimeout(refresh, REFRESH_DELAY_MS);
    }
  },
});
