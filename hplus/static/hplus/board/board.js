// The live board. The rows of the database are the truth: an event on the socket only asks to read them again.

import { stepChart } from "./charts.js";
import { Live } from "./live.js";
import { fit, makeMap, mark } from "./map.js";
import { duration, make, read, showState, spaced } from "./page.js";

const REFRESH_DELAY_MS = 300; // what comes within this time is looked at once
const REFRESH_MS = 15000; // for changes without an event
const CHANGES = new Set([
  "boardChanged", "emergencyAlert", "emergencyResponse", "emergencyStatusUpdate", "hospitalStatus",
  "userOnline", "userOffline", "locationSharingStopped",
]);

const setup = read("board-setup");
const places = Object.fromEntries(
  ["state", "open", "empty", "rows", "people", "people-count", "map", "times", "diversion", "more"].map((name) => [
    name, document.getElementById(`hp-${name}`),
  ]),
);
const units = new Map(); // userId → {unit, marker}
const scenes = new Map(); // emergencyId → marker
let board = read("board-data");
let clockSkewMs = Date.parse(board.now) - Date.now();
let map = null;
let refreshTimer = null;
let link = { state: "connecting", retryAt: 0 };
let known = new Set(board.emergencies.map((one) => one.emergencyId));

const serverNow = () => Date.now() + clockSkewMs;
const since = (at) => (serverNow() - Date.parse(at)) / 1000;

// Emergencies

function row(one) {
  const isNew = !known.has(one.emergencyId);
  const link = make("a", { href: one.url, text: one.condition });
  const line = make(
    "tr",
    { cls: `hp-row hp-${one.priority} ${one.status === "pending" ? "hp-waiting" : ""} ${isNew ? "hp-new" : ""}` },
    make("td", {}, make("span", { cls: `hp-tag hp-${one.priority}`, text: one.priority })),
    make("td", { cls: "hp-time" }, make("time", { datetime: one.requestedAt, text: duration(since(one.requestedAt)) })),
    make("td", { cls: "hp-what" }, link, make("small", { text: [one.patient, one.address].filter(Boolean).join(" · ") })),
    make("td", { cls: "hp-status" }, ...statusOf(one)),
    make("td", { cls: "hp-assignee" }, one.assignee ? who(one) : make("span", { cls: "hp-nobody", text: "nobody yet" })),
    make("td", { cls: "hp-next" }, ...escalation(one)),
    make("td", { cls: "hp-next" }, news2(one.news2)),
  );
  line.dataset.id = one.emergencyId;
  const titles = ["priority", "waiting", "", "status", "assignee", "escalation", "NEWS2"];
  [...line.cells].forEach((cell, column) => titles[column] && (cell.dataset.title = titles[column]));
  return line;
}

function statusOf(one) {
  const lines = [make("span", { text: spaced(one.status) })];
  if (one.phase) lines.push(make("small", { text: spaced(one.phase) }));
  if (one.stalled) lines.push(make("span", { cls: "hp-level hp-level-2", text: one.stalled }));
  return lines;
}

function who(one) {
  const cell = make("span", { text: one.assignee });
  if (one.etaSeconds !== null) cell.append(make("small", { text: `there in about ${duration(one.etaSeconds)}` }));
  return cell;
}

function escalation(one) {
  if (!one.escalationLevel && !one.escalateAt) return [make("span", { cls: "hp-quiet", text: "–" })];
  const lines = [];
  if (one.escalationLevel) lines.push(make("span", { cls: `hp-level hp-level-${one.escalationLevel}`, text: `level ${one.escalationLevel}` }));
  if (one.escalateAt) lines.push(make("small", { "data-until": one.escalateAt, text: untilText(one.escalateAt) }));
  return lines;
}

const untilText = (at) => `next in ${duration(-since(at))}`;

function news2(score) {
  if (!score) return make("span", { cls: "hp-quiet", text: "–" });
  if (score.score === null) return make("span", { cls: "hp-quiet", text: `n/a (${score.notApplicable})` });
  const text = `${score.complete ? "" : "≥ "}${score.score} ${spaced(score.band ?? "")}`;
  return make("span", { cls: `hp-band hp-band-${score.band}`, text });
}

function showEmergencies() {
  const focused = document.activeElement?.closest?.("tr[data-id]")?.dataset.id;
  const rows = board.emergencies.map(row);
  places.rows.replaceChildren(...rows);
  if (focused) rows.find((one) => one.dataset.id === focused)?.querySelector("a")?.focus();
  known = new Set(board.emergencies.map((one) => one.emergencyId));
  const waiting = board.emergencies.filter((one) => one.status === "pending").length;
  places.open.textContent = `${board.openCount} open, ${waiting} waiting for somebody`;
  places.empty.hidden = board.openCount > 0;
  places.rows.closest("table").hidden = board.openCount === 0;
  places.more.hidden = board.openCount <= board.emergencies.length;
  document.title = `${waiting ? `(${waiting}) ` : ""}${board.hospital.name}: live board`;
}

function tick() {
  for (const time of places.rows.querySelectorAll("time")) time.textContent = duration(since(time.dateTime));
  for (const due of places.rows.querySelectorAll("[data-until]")) due.textContent = untilText(due.dataset.until);
  if (link.state === "gone") showState(places.state, link.state, link.retryAt);
}

// People, diversion, response times

function showPeople() {
  places["people-count"].textContent = board.people.length;
  places.people.replaceChildren(
    ...board.people.map((one) =>
      make(
        "li",
        { cls: `hp-person hp-is-${one.status}` },
        make("b", { text: one.name }),
        make("small", { text: `${one.role}, ${one.status}` }),
      ),
    ),
  );
  if (!board.people.length) places.people.append(make("li", { cls: "hp-quiet", text: "Nobody is online." }));
}

function showDiversion() {
  const { onDiversion, diversionReason, diversionUntil } = board.hospital;
  places.diversion.hidden = !onDiversion;
  const until = diversionUntil ? `until ${new Date(diversionUntil).toLocaleString()}` : "";
  places.diversion.textContent = ["On diversion", diversionReason, until].filter(Boolean).join(" · ");
}

function showTimes() {
  places.times.replaceChildren(...Object.entries(board.times.steps).map(([step, times]) => stepChart(step, times)));
}

// The map

function showMap() {
  const isFirst = map === null;
  const found = [...board.emergencies, ...board.units].map((one) => [one.lat, one.lng]);
  if (isFirst) map = makeMap(places.map, setup.tileUrl, found[0] ?? [0, 0]);
  for (const marker of scenes.values()) marker.remove();
  scenes.clear();
  for (const one of board.emergencies) {
    const title = `${one.priority}: ${one.condition}`;
    scenes.set(one.emergencyId, mark(map, [one.lat, one.lng], { cls: `hp-scene hp-${one.priority}`, sign: "!", label: one.priority, title }));
  }
  for (const { marker } of units.values()) marker.remove();
  units.clear();
  for (const unit of board.units) place(unit);
  if (isFirst && found.length) fit(map, found);
}

function place(unit) {
  units.get(unit.userId)?.marker.remove();
  const isPatient = unit.role === "patient";
  const cls = `hp-unit ${isPatient ? "hp-patient" : ""} ${unit.isStale ? "hp-stale" : ""}`;
  const label = unit.isStale ? `${unit.name} (old)` : unit.name;
  const marker = mark(map, [unit.lat, unit.lng], { cls, sign: isPatient ? "P" : "+", label });
  units.set(unit.userId, { unit, marker });
}

function move(frame) {
  const known = units.get(frame.userId);
  if (!known) {
    refreshSoon();
    return;
  }
  const { lat, lng, stale } = frame.data.location;
  place({ ...known.unit, lat, lng, isStale: stale });
}

// Refreshing

function show() {
  clockSkewMs = Date.parse(board.now) - Date.now();
  showEmergencies();
  showPeople();
  showDiversion();
  showTimes();
  showMap();
}

function refreshSoon() {
  refreshTimer ??= setTimeout(refresh, REFRESH_DELAY_MS);
}

async function refresh() {
  const address = `${setup.boardUrl}?${new URLSearchParams({ hospital: setup.hospitalId })}`;
  try {
    const answer = await fetch(address, { headers: { Accept: "application/json" } });
    if (answer.ok && !answer.redirected) {
      board = await answer.json();
      show();
    }
  } catch (unreachable) {
    console.info("The board could not be read; it will be tried again.", unreachable);
  } finally {
    refreshTimer = null;
  }
}

show();
setInterval(tick, 1000);
setInterval(refreshSoon, REFRESH_MS);
document.getElementById("hp-hospital")?.addEventListener("change", (event) => event.target.form.submit());
new Live({
  hospitalId: setup.hospitalId,
  onState: (state, retryAt) => {
    link = { state, retryAt };
    document.body.classList.toggle("hp-is-old", state === "gone" || state === "ended");
    showState(places.state, state, retryAt);
  },
  onReady: refreshSoon,
  onFrame: (frame) => {
    if (frame.type === "locationUpdate") move(frame);
    else if (CHANGES.has(frame.type)) refreshSoon();
  },
});
